// Images of bytes to tensors, standardised on the way, and back.
#ifndef SIMDNORM_OPS_IMAGES_H_
#define SIMDNORM_OPS_IMAGES_H_

#include "native/core/statistic.h"
#include "native/kernels/kernels.h"
#include "native/ops/statistics.h"

namespace simdnorm {

// `count` images of height x width pixels of `step` bytes, 1 to 4, in rows that begin row_stride bytes apart.
// The tensor has `channels` planes of height x width, or pixels of `channels` elements, channel c being byte order[c].
struct Images {
  size_t count, height, width, step, row_stride;
  size_t channels;
  uint8_t order[4];
  bool planar;

  size_t pixels() const { return height * width; }
  size_t elements() const { return count * pixels() * channels; }
};

// y = (byte - mean[c]) / std[c], folded as xHat is. Image n begins at x[n].
template <class S>
Status from_images(const Kernels<S>& k, const Images& images, const double* mean, const double* std,
                   const uint8_t* const* x, S* y);
// byte = y * std[c] + mean[c], rounded and held within 0 to 255. The bytes of no channel are 0.
template <class S>
Status to_images(const Kernels<S>& k, const Images& images, const double* mean, const double* std, const S* y,
                 uint8_t* const* x);

}  // namespace simdnorm

#endif  // SIMDNORM_OPS_IMAGES_H_
