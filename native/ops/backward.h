// dx, dweight and dbias from dy, x and what the forward pass saved.
//
// With h = dy * weight and means <> over one statistic:  dx = rstd * (h - <h> - xHat * <h * xHat>)
//   About::kZero (RMSNorm): without <h>.   constant (running statistics): dx = rstd * h.
// dweight = sum of dy * xHat, dbias = sum of dy. Sums are of dy * (x - mean), never differences of large sums.
//
// Where y went through a ReLU, dy is first set to 0 where that let nothing through: g, which is also the gradient of
// what was added to y. Block by block, right before its sums, where there are any.
#ifndef SIMDNORM_OPS_BACKWARD_H_
#define SIMDNORM_OPS_BACKWARD_H_

#include "native/ops/statistics.h"

namespace simdnorm {

template <class S>
struct Backward {
  using T = Value<S>;
  Geometry g;
  About about;
  bool constant;  // the statistics were running ones, which do not depend on x
  const S* dy;
  const S* x;
  S* dx;            // may be dy or x, or null
  const T* weight;  // or null
  const Statistic* saved;
  T* dweight;  // added to; or null
  T* dbias;

  // Where x is a part of what `saved` is of, two calls: one without dx, dweight and dbias, in which `sums` takes
  // [dy, dy * xHat][channels] of this part, and one with `totals`: the same of all `count` values of a channel, and
  // behind them the part's own, which dweight and dbias are made of. Of one batch item whose groups are channels.
  double* sums = nullptr;
  const double* totals = nullptr;
  double count = 0;  // or 0: the geometry's

  // Behind a ReLU only: where g goes (may be dy or dx), or null; and what forward made y with.
  S* gated;
  const S* add;  // or null
  const T* bias;
};

// Writes nothing unless it returns kOk.
template <class S>
Status backward(const Kernels<S>& k, const Backward<S>& op);

}  // namespace simdnorm

#endif  // SIMDNORM_OPS_BACKWARD_H_
