#include "native/ops/backward.h"

#include "native/ops/kinds.h"
#include "native/parallel/float_environment.h"

namespace simdnorm {

template <class S>
Status backward(const Kernels<S>& k, const Backward<S>& op) {
  const FloatEnvironment environment;
  // A part of one row of one channel is a column too: what it is a part of may be more.
  const bool of_part = op.sums || op.totals;
  if (op.g.columns() || (of_part && op.g.run == 1)) return backward_columns(k, op);
  return op.g.run > 1 ? backward_runs(k, op) : backward_elements(k, op);
}

template Status backward(const Kernels<float>&, const Backward<float>&);
template Status backward(const Kernels<double>&, const Backward<double>&);
template Status backward(const Kernels<Float16>&, const Backward<Float16>&);
template Status backward(const Kernels<BFloat16>&, const Backward<BFloat16>&);

}  // namespace simdnorm
