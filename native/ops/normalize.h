// y from x: with the statistics of x itself, or with running ones.
#ifndef SIMDNORM_OPS_NORMALIZE_H_
#define SIMDNORM_OPS_NORMALIZE_H_

#include "native/ops/statistics.h"

namespace simdnorm {

template <class S>
struct Normalize {
  using T = Value<S>;
  Geometry g;
  Rule rule;
  const S* x;
  S* y;             // may be x, or finish.add
  const T* weight;  // per channel, or null
  const T* bias;
  Finish<S> finish;
  Statistic* saved;  // one per (batch, group), or null

  // With `use_running`, y comes from running_mean and running_var (then batch is 1), or where there are none from what
  // stands in `saved`. Otherwise, where they are given,
  // they take in the batch with this momentum, after y is written.
  bool use_running;
  double count = 0;  // behind each statistic in `saved`, where that is of more than x; else 0
  double momentum;
  T* running_mean;
  T* running_var;
};

// Writes nothing unless it returns kOk.
template <class S>
Status normalize(const Kernels<S>& k, const Normalize<S>& op);

}  // namespace simdnorm

#endif  // SIMDNORM_OPS_NORMALIZE_H_
