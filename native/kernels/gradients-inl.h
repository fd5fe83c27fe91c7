// Sums of gradients, and dx from dy and x. See kernels-inl.h.
#include <stddef.h>

#include "native/kernels/kernels.h"

namespace simdnorm {
namespace SIMDNORM_ISA {
namespace {

template <class T>
SIMDNORM_KERNEL GradSums grad_sums(const T* dy, const T* x, size_t stride, size_t pieces, size_t n, T center, T scale) {
  const Vec<T> c(center), r(scale);
  const Sums s = sum_along<T>(stride, pieces, n, [&](size_t i, auto lanes) {
    const Vec<T> g = load(dy + i, lanes);
    return Terms<T>{g, g * keep((load(x + i, lanes) - c) * r, lanes)};
  });
  return {s.a, s.b};
}

template <class T>
SIMDNORM_KERNEL GradSums grad_sums_elements(const T* dy, const T* x, size_t n, Affine<T> f, const T* weight) {
  const Vec<T> center(f.center), scale(f.scale), shift(f.shift);
  const auto terms = [&](size_t i, Vec<T> g, auto lanes) {
    return Terms<T>{g, g * keep((load(x + i, lanes) - center) * scale + shift, lanes)};
  };
  const Sums s =
      weight ? sum_along<T>(
                   0, 1, n,
                   [&](size_t i, auto lanes) { return terms(i, load(dy + i, lanes) * load(weight + i, lanes), lanes); })
             : sum_along<T>(0, 1, n, [&](size_t i, auto lanes) { return terms(i, load(dy + i, lanes), lanes); });
  return {s.a, s.b};
}

template <class L>
inline void add_to(double* p, Vec<double> v, L lanes) {
  store(p, load(p, lanes) + v, lanes);
}

template <class T>
SIMDNORM_KERNEL void grad_columns(const T* dy, const T* x, size_t stride, size_t rows, size_t cols, const T* center,
                                  const T* scale, double* sum_dy, double* sum_dy_xhat) {
  for_each_vector(cols, [&](size_t j, auto lanes) {
    const Vec<T> c = load(center + j, lanes), r = load(scale + j, lanes);
    const Terms<double> s = sum_down<T>(rows, [&](size_t row) {
      const Vec<T> g = load(dy + row * stride + j, lanes);
      return Terms<T>{g, g * ((load(x + row * stride + j, lanes) - c) * r)};
    });
    add_to(sum_dy + j, s.a, lanes);
    add_to(sum_dy_xhat + j, s.b, lanes);
  });
}

template <class T>
SIMDNORM_KERNEL void grad_columns_by_row(const T* dy, const T* x, size_t stride, size_t rows, size_t cols,
                                         const Affine<T>* f, double* sum_dy, double* sum_dy_xhat) {
  for_each_vector(cols, [&](size_t j, auto lanes) {
    const Terms<double> s = sum_down<T>(rows, [&](size_t row) {
      const Vec<T> g = load(dy + row * stride + j, lanes);
      const Vec<T> d = load(x + row * stride + j, lanes) - Vec<T>(f[row].center);
      return Terms<T>{g, g * (d * Vec<T>(f[row].scale) + Vec<T>(f[row].shift))};
    });
    add_to(sum_dy + j, s.a, lanes);
    add_to(sum_dy_xhat + j, s.b, lanes);
  });
}

// ---- dx from dy and x ----

template <class T>
SIMDNORM_KERNEL void slope(T* dx, const T* dy, const T* x, size_t n, Slope<T> f) {
  const Vec<T> center(f.center), scale(f.scale), a(f.dy_factor), b(f.x_factor), c(f.constant);
  for_each_vector(n, [&](size_t i, auto lanes) {
    const Vec<T> x_hat = (load(x + i, lanes) - center) * scale;
    store(dx + i, load(dy + i, lanes) * a + x_hat * b + c, lanes);
  });
}

template <class T>
SIMDNORM_KERNEL void slope_elements(T* dx, const T* dy, const T* x, size_t n, Affine<T> f, const T* weight, T dy_factor,
                                    T x_factor, T constant) {
  const Vec<T> center(f.center), scale(f.scale), shift(f.shift), a(dy_factor), b(x_factor), c(constant);
  const auto dx_of = [&](size_t i, Vec<T> g, auto lanes) {
    const Vec<T> x_hat = (load(x + i, lanes) - center) * scale + shift;
    store(dx + i, g * a + x_hat * b + c, lanes);
  };
  if (weight) {
    for_each_vector(n, [&](size_t i, auto lanes) { dx_of(i, load(dy + i, lanes) * load(weight + i, lanes), lanes); });
  } else {
    for_each_vector(n, [&](size_t i, auto lanes) { dx_of(i, load(dy + i, lanes), lanes); });
  }
}

template <class T>
SIMDNORM_KERNEL void slope_columns(T* dx, const T* dy, const T* x, size_t stride, size_t rows, size_t cols,
                                   SlopeColumns<T> f) {
  for (size_t row = 0; row < rows; row++, x += stride, dy += stride, dx += stride) {
    for_each_vector(cols, [&](size_t j, auto lanes) {
      const Vec<T> x_hat = (load(x + j, lanes) - load(f.center + j, lanes)) * load(f.scale + j, lanes);
      const Vec<T> dx_j = load(dy + j, lanes) * load(f.dy_factor + j, lanes) + x_hat * load(f.x_factor + j, lanes);
      store(dx + j, dx_j + load(f.constant + j, lanes), lanes);
    });
  }
}

}  // namespace
}  // namespace SIMDNORM_ISA
}  // namespace simdnorm
