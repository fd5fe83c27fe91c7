// Each value divided by a power of what is around it in the channels:
//
//   s[c] = k + scale * sum of x[j]^2,  c - before <= j <= c + after,  0 <= j < channels
//   y[c] = x[c] / s[c]^beta
//   dx[c] = dy[c] / s[c]^beta - 2 scale beta x[c] * sum of dy[j] x[j] / s[j]^(beta + 1),  c - after <= j <= c + before
//
// A tensor is read as [outer][channels][inner]: (N, C, ...S) is [N][C][S], channels-last memory [N S][C][1]. Both give
// the same bits. Sums are of a window's own terms, so that nothing outside it, be it NaN, shows inside it.
#ifndef SIMDNORM_OPS_LOCAL_RESPONSE_H_
#define SIMDNORM_OPS_LOCAL_RESPONSE_H_

#include "native/kernels/kernels.h"
#include "native/ops/statistics.h"

namespace simdnorm {

struct ChannelWindow {
  size_t outer, channels, inner;
  size_t before, after;
  Response f;

  size_t elements() const { return outer * channels * inner; }
  // What the ops rely on: the sizes' product is formed with a check.
  bool valid() const {
    size_t all;
    return Geometry::product(outer, channels, &all) && Geometry::product(all, inner, &all);
  }
};

// y may be x. Writes nothing unless it returns kOk.
template <class S>
Status local_response(const Kernels<S>& k, const ChannelWindow& w, const S* x, S* y);

// dx may be dy or x. Writes nothing unless it returns kOk.
template <class S>
Status local_response_backward(const Kernels<S>& k, const ChannelWindow& w, const S* dy, const S* x, S* dx);

}  // namespace simdnorm

#endif  // SIMDNORM_OPS_LOCAL_RESPONSE_H_
