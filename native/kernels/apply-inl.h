// y from x. See kernels-inl.h.
#include <stddef.h>

#include "native/kernels/kernels.h"

namespace simdnorm {
namespace SIMDNORM_ISA {
namespace {

template <class T>
SIMDNORM_KERNEL void apply(T* y, const T* x, size_t n, Affine<T> f) {
  const Vec<T> center(f.center), scale(f.scale), shift(f.shift);
  for_each_vector(n, [&](size_t i, auto lanes) { store(y + i, (load(x + i, lanes) - center) * scale + shift, lanes); });
}

template <class T>
SIMDNORM_KERNEL void apply_elements(T* y, const T* x, size_t n, Affine<T> f, const T* weight, const T* bias) {
  const Vec<T> center(f.center), scale(f.scale), shift(f.shift);
  const auto x_hat = [&](size_t i, auto lanes) { return (load(x + i, lanes) - center) * scale + shift; };
  if (weight && bias) {
    for_each_vector(n, [&](size_t i, auto lanes) {
      store(y + i, x_hat(i, lanes) * load(weight + i, lanes) + load(bias + i, lanes), lanes);
    });
  } else if (weight) {
    for_each_vector(n, [&](size_t i, auto lanes) { store(y + i, x_hat(i, lanes) * load(weight + i, lanes), lanes); });
  } else if (bias) {
    for_each_vector(n, [&](size_t i, auto lanes) { store(y + i, x_hat(i, lanes) + load(bias + i, lanes), lanes); });
  } else {
    apply(y, x, n, f);
  }
}

template <class T>
SIMDNORM_KERNEL void apply_columns(T* y, const T* x, size_t stride, size_t rows, size_t cols, AffineColumns<T> f) {
  for (size_t row = 0; row < rows; row++, x += stride, y += stride) {
    for_each_vector(cols, [&](size_t j, auto lanes) {
      const Vec<T> d = load(x + j, lanes) - load(f.center + j, lanes);
      store(y + j, d * load(f.scale + j, lanes) + load(f.shift + j, lanes), lanes);
    });
  }
}

}  // namespace
}  // namespace SIMDNORM_ISA
}  // namespace simdnorm
