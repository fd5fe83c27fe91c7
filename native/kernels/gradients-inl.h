// Sums of gradients, and dx from dy and x. See kernels-inl.h.
#include <stddef.h>

#include "native/kernels/kernels.h"

namespace simdnorm {
namespace SIMDNORM_ISA {
namespace {

template <class S>
SIMDNORM_KERNEL GradSums grad_sums(const S* dy, const S* x, size_t stride, size_t pieces, size_t n, Value<S> center,
                                   Value<S> scale) {
  using T = Value<S>;
  const Vec<T> c(center), r(scale);
  const Sums s = sum_along<T>(stride, pieces, n, [&](size_t i, auto lanes) {
    const Vec<T> g = load(dy + i, lanes);
    return Terms<T>{g, g * keep((load(x + i, lanes) - c) * r, lanes)};
  });
  return {s.a, s.b};
}

template <class S>
SIMDNORM_KERNEL GradSums grad_sums_elements(const S* dy, const S* x, size_t n, Affine<Value<S>> f,
                                            const Value<S>* weight) {
  using T = Value<S>;
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

template <class S>
SIMDNORM_KERNEL GradSums grad_sums_row(const S* dy, const S* x, size_t cols, AffineColumns<Value<S>> f) {
  using T = Value<S>;
  const Sums s = sum_along<T>(0, 1, cols, [&](size_t j, auto lanes) {
    const Vec<T> g = load(dy + j, lanes);
    const Vec<T> x_hat = (load(x + j, lanes) - load(f.center + j, lanes)) * load(f.scale + j, lanes);
    return Terms<T>{g, g * (x_hat + load(f.shift + j, lanes))};
  });
  return {s.a, s.b};
}

template <class L>
inline void add_to(double* p, Vec<double> v, L lanes) {
  store(p, load(p, lanes) + v, lanes);
}

template <class S>
SIMDNORM_KERNEL void grad_columns(const S* dy, const S* x, size_t stride, size_t rows, size_t cols,
                                  const Value<S>* center, const Value<S>* scale, const Value<S>* row_weight,
                                  double* sum_dy, double* sum_dy_xhat) {
  using T = Value<S>;
  const auto each = [&](auto h) {
    for_each_vector(cols, [&](size_t j, auto lanes) {
      const Vec<T> c = load(center + j, lanes), r = load(scale + j, lanes);
      const Terms<double> s = sum_down<T>(rows, [&](size_t row) {
        const Vec<T> g = h(row, load(dy + row * stride + j, lanes));
        return Terms<T>{g, g * ((load(x + row * stride + j, lanes) - c) * r)};
      });
      add_to(sum_dy + j, s.a, lanes);
      add_to(sum_dy_xhat + j, s.b, lanes);
    });
  };
  if (row_weight) {
    each([&](size_t row, Vec<T> g) { return g * Vec<T>(row_weight[row]); });
  } else {
    each([&](size_t, Vec<T> g) { return g; });
  }
}

template <class S>
SIMDNORM_KERNEL void grad_columns_by_row(const S* dy, const S* x, size_t stride, size_t rows, size_t cols,
                                         const Affine<Value<S>>* f, double* sum_dy, double* sum_dy_xhat) {
  using T = Value<S>;
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

template <class S>
SIMDNORM_KERNEL void slope(S* dx, const S* dy, const S* x, size_t n, Slope<Value<S>> f) {
  using T = Value<S>;
  const Vec<T> center(f.center), scale(f.scale), a(f.dy_factor), b(f.x_factor), c(f.constant);
  for_each_vector(n, [&](size_t i, auto lanes) {
    const Vec<T> x_hat = (load(x + i, lanes) - center) * scale;
    store(dx + i, load(dy + i, lanes) * a + x_hat * b + c, lanes);
  });
}

template <class S>
SIMDNORM_KERNEL void slope_elements(S* dx, const S* dy, const S* x, size_t n, Affine<Value<S>> f,
                                    const Value<S>* weight, Value<S> dy_factor, Value<S> x_factor, Value<S> constant) {
  using T = Value<S>;
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

template <class S>
SIMDNORM_KERNEL void slope_columns(S* dx, const S* dy, const S* x, size_t stride, size_t rows, size_t cols,
                                   SlopeColumns<Value<S>> f) {
  using T = Value<S>;
  const auto each = [&](auto h) {
    for (size_t row = 0; row < rows; row++) {
      for_each_vector(cols, [&](size_t j, auto lanes) {
        const size_t i = row * stride + j;
        const Vec<T> x_hat = (load(x + i, lanes) - load(f.center + j, lanes)) * load(f.scale + j, lanes);
        const Vec<T> of_dy = h(row, load(dy + i, lanes)) * load(f.dy_factor + j, lanes);
        store(dx + i, of_dy + x_hat * load(f.x_factor + j, lanes) + load(f.constant + j, lanes), lanes);
      });
    }
  };
  if (f.row_weight) {
    each([&](size_t row, Vec<T> g) { return g * Vec<T>(f.row_weight[row]); });
  } else {
    each([&](size_t, Vec<T> g) { return g; });
  }
}

}  // namespace
}  // namespace SIMDNORM_ISA
}  // namespace simdnorm
