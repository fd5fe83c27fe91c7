#include "native/ops/normalize.h"

#include "native/ops/kinds.h"
#include "native/parallel/float_environment.h"

namespace simdnorm {

template <class S>
Status normalize(const Kernels<S>& k, const Normalize<S>& op) {
  const FloatEnvironment environment;
  const bool columns = op.g.columns(), elements = !columns && op.g.run == 1;
  const bool moves_running = !op.use_running && (op.running_mean || op.running_var);
  // Rows by element need no record of a statistic that nobody looks at.
  const Scratch<Statistic> own(op.saved || (elements && !moves_running) ? 0 : op.g.statistics());
  if (!own.ok()) return Status::kOutOfMemory;
  Normalize<S> kept = op;
  if (!op.saved) kept.saved = own.get();
  const Status status = columns    ? normalize_columns(k, kept)
                        : elements ? normalize_elements(k, kept)
                                   : normalize_runs(k, kept);
  if (status == Status::kOk && moves_running && op.g.elements() > 0) {
    update_running(op.g, kept.saved, nullptr, op.momentum, op.running_mean, op.running_var);
  }
  return status;
}

template Status normalize(const Kernels<float>&, const Normalize<float>&);
template Status normalize(const Kernels<double>&, const Normalize<double>&);
template Status normalize(const Kernels<Float16>&, const Normalize<Float16>&);
template Status normalize(const Kernels<BFloat16>&, const Normalize<BFloat16>&);

}  // namespace simdnorm
