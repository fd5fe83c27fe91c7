// Images of bytes to tensors, standardised on the way, and back.
#ifndef SIMDNORM_OPS_IMAGES_H_
#define SIMDNORM_OPS_IMAGES_H_

#include "native/core/statistic.h"
#include "native/kernels/kernels.h"
#include "native/ops/statistics.h"

namespace simdnorm {

// `count` images of height x width pixels of `step` bytes, 1 to 4; rows begin row_stride bytes apart, images
// image_stride. The tensor has `channels` planes of height x width, or pixels of `channels` elements, channel c being
// byte order[c].
struct Images {
  size_t count, height, width, step, row_stride, image_stride;
  size_t channels;
  uint8_t order[4];
  bool planar;

  size_t pixels() const { return height * width; }
  size_t elements() const { return count * pixels() * channels; }
};

// y = (byte - mean[c]) / std[c], in double, folded as xHat is.
template <class S>
Status from_images(const Kernels<S>& k, const Images& images, const double* mean, const double* std, const uint8_t* x,
                   S* y);
// byte = y * std[c] + mean[c], rounded and held within 0 to 255. The bytes of no channel are 0.
template <class S>
Status to_images(const Kernels<S>& k, const Images& images, const double* mean, const double* std, const S* y,
                 uint8_t* x);

}  // namespace simdnorm

#endif  // SIMDNORM_OPS_IMAGES_H_
