// dx, dweight and dbias from dy, x and what the forward pass saved.
//
// With h = dy * weight and means <> over one statistic:  dx = rstd * (h - <h> - xHat * <h * xHat>)
//   About::kZero (RMSNorm): without <h>.   constant (running statistics): dx = rstd * h.
// dweight = sum of dy * xHat, dbias = sum of dy. Sums are of dy * (x - mean), never differences of large sums.
#ifndef SIMDNORM_OPS_BACKWARD_H_
#define SIMDNORM_OPS_BACKWARD_H_

#include "native/ops/statistics.h"

namespace simdnorm {

template <class T>
struct Backward {
  Geometry g;
  About about;
  bool constant;  // the statistics were running ones, which do not depend on x
  const T* dy;
  const T* x;
  T* dx;            // may be dy or x, or null
  const T* weight;  // or null
  const Statistic* saved;
  T* dweight;  // added to; or null
  T* dbias;
};

// Writes nothing unless it returns kOk.
template <class T>
Status backward(const Kernels<T>& k, const Backward<T>& op);

}  // namespace simdnorm

#endif  // SIMDNORM_OPS_BACKWARD_H_
