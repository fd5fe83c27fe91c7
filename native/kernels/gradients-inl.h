// Sums of gradients, and dx from dy and x. See kernels-inl.h.
#include <stddef.h>

#include "native/kernels/kernels.h"

namespace simdnorm {
namespace SIMDNORM_ISA {
namespace {

template <class S>
SIMDNORM_KERNEL GradSums grad_sums(const S* dy, const S* x, size_t stride, size_t pieces, size_t n, Value<S> center,
                                   Value<S> scale, size_t ahead) {
  using T = Value<S>;
  const Vec<T> c(center), r(scale);
  const Sums s = sum_along<T>(dy, stride, pieces, n, [&](ptrdiff_t i, auto lanes) {
    prefetch(dy + i, ahead);
    prefetch(x + i, ahead);
    const Vec<T> g = load(dy + i, lanes);
    return Terms<T>{g, g * keep((load(x + i, lanes) - c) * r, lanes)};
  });
  return {s.a, s.b};
}

template <class T, class L>
inline void add_to(T* p, Vec<T> v, L lanes) {
  store(p, load(p, lanes) + v, lanes);
}

template <class S>
inline GradSums sums_of_row(const S* dy, const S* x, size_t n, Affine<Value<S>> f, const Value<S>* weight,
                            Value<S>* sum_dy, Value<S>* sum_dy_xhat, size_t ahead) {
  using T = Value<S>;
  const Vec<T> center(f.center), scale(f.scale), shift(f.shift);
  const auto with = [&](auto h) {
    const auto terms = [&](auto keep_sums) {
      const Sums s = sum_along<T>(dy, 0, 1, n, [&](ptrdiff_t i, auto lanes) {
        prefetch(dy + i, ahead);
        prefetch(x + i, ahead);
        const Vec<T> g = load(dy + i, lanes);
        const Vec<T> x_hat = keep((load(x + i, lanes) - center) * scale + shift, lanes);
        keep_sums(i, g, x_hat, lanes);
        const Vec<T> weighted = h(i, g, lanes);
        return Terms<T>{weighted, weighted * x_hat};
      });
      return GradSums{s.a, s.b};
    };
    if (sum_dy && sum_dy_xhat) {
      return terms([&](ptrdiff_t i, Vec<T> g, Vec<T> x_hat, auto lanes) {
        add_to(sum_dy + i, g, lanes);
        add_to(sum_dy_xhat + i, g * x_hat, lanes);
      });
    }
    if (sum_dy) return terms([&](ptrdiff_t i, Vec<T> g, Vec<T>, auto lanes) { add_to(sum_dy + i, g, lanes); });
    if (!sum_dy_xhat) return terms([](ptrdiff_t, Vec<T>, Vec<T>, auto) {});
    return terms([&](ptrdiff_t i, Vec<T> g, Vec<T> x_hat, auto lanes) { add_to(sum_dy_xhat + i, g * x_hat, lanes); });
  };
  if (weight) return with([&](ptrdiff_t i, Vec<T> g, auto lanes) { return g * load(weight + i, lanes); });
  return with([](ptrdiff_t, Vec<T> g, auto) { return g; });
}

template <class S>
SIMDNORM_KERNEL GradSums grad_elements(const S* dy, const S* x, size_t n, Affine<Value<S>> f, const Value<S>* weight,
                                       Value<S>* sum_dy, Value<S>* sum_dy_xhat, size_t ahead) {
  return sums_of_row(dy, x, n, f, weight, sum_dy, sum_dy_xhat, ahead);
}

template <class T>
inline void drain_into(double* into, T* from, size_t n) {
  if (!into) return;
  for_each_vector(n, [&](size_t i, auto lanes) {
    add_to(into + i, widen(load(from + i, lanes)), lanes);
    store(from + i, Vec<T>(), lanes);
  });
}
template <class T>
SIMDNORM_KERNEL void drain(double* into, T* from, size_t n) {
  drain_into(into, from, n);
}

template <class S>
SIMDNORM_KERNEL GradSums grad_sums_row(const S* dy, const S* x, size_t cols, AffineColumns<Value<S>> f) {
  using T = Value<S>;
  const Sums s = sum_along<T>(dy, 0, 1, cols, [&](ptrdiff_t j, auto lanes) {
    const Vec<T> g = load(dy + j, lanes);
    const Vec<T> x_hat = (load(x + j, lanes) - load(f.center + j, lanes)) * load(f.scale + j, lanes);
    return Terms<T>{g, g * (x_hat + load(f.shift + j, lanes))};
  });
  return {s.a, s.b};
}

template <class S>
SIMDNORM_KERNEL void grad_columns(const S* dy, const S* x, Rows rows, const Value<S>* center, const Value<S>* scale,
                                  const Value<S>* row_weight, double* sum_dy, double* sum_dy_xhat) {
  using T = Value<S>;
  const size_t ahead = ahead_of(rows);
  const auto each = [&](auto h) {
    for (size_t first = 0; first < rows.n; first += kColumns) {
      const size_t cols = least(kColumns, rows.n - first);
      ColumnLanes<T> sums;
      sum_down(rows.count, cols, sums, [&](size_t row, size_t j, auto lanes) {
        const size_t i = row * rows.stride + first + j;
        prefetch(dy + i, ahead);
        prefetch(x + i, ahead);
        const Vec<T> g = h(row, load(dy + i, lanes));
        const Vec<T> x_hat = (load(x + i, lanes) - load(center + first + j, lanes)) * load(scale + first + j, lanes);
        return Terms<T>{g, g * x_hat};
      });
      for_each_vector(cols, [&](size_t j, auto lanes) {
        add_to(sum_dy + first + j, sums.total[j / kLanes].a, lanes);
        add_to(sum_dy_xhat + first + j, sums.total[j / kLanes].b, lanes);
      });
    }
  };
  if (row_weight) {
    each([&](size_t row, Vec<T> g) { return g * Vec<T>(row_weight[row]); });
  } else {
    each([&](size_t, Vec<T> g) { return g; });
  }
}

// ---- dx from dy and x ----

template <class S>
SIMDNORM_KERNEL void slope_runs(S* dx, const S* dy, const S* x, size_t n, size_t runs, const Slope<Value<S>>* f,
                                Stores stores, size_t ahead) {
  using T = Value<S>;
  for (size_t run = 0; run < runs; run++) {
    const Vec<T> center(f[run].center), a(f[run].dy_factor), b(f[run].x_factor), c(f[run].constant);
    const size_t at = run * n;
    map(dx + at, n, stores, [&](size_t i, auto lanes) {
      prefetch(dy + at + i, ahead);
      prefetch(x + at + i, ahead);
      return load(dy + at + i, lanes) * a + (load(x + at + i, lanes) - center) * b + c;
    });
  }
  after(stores);
}

template <class S>
inline void slope_of_row(S* dx, const S* dy, const S* x, size_t n, Slope<Value<S>> f, const Value<S>* weight,
                         Stores stores, size_t ahead) {
  using T = Value<S>;
  const Vec<T> center(f.center), a(f.dy_factor), b(f.x_factor), c(f.constant);
  const auto line = [&](size_t i, Vec<T> h, auto lanes) {
    prefetch(dy + i, ahead);
    prefetch(x + i, ahead);
    return h * a + (load(x + i, lanes) - center) * b + c;
  };
  if (weight) {
    map(dx, n, stores,
        [&](size_t i, auto lanes) { return line(i, load(dy + i, lanes) * load(weight + i, lanes), lanes); });
  } else {
    map(dx, n, stores, [&](size_t i, auto lanes) { return line(i, load(dy + i, lanes), lanes); });
  }
}

template <class S>
SIMDNORM_KERNEL void slope_elements(S* dx, const S* dy, const S* x, size_t n, Slope<Value<S>> f, const Value<S>* weight,
                                    Stores stores, size_t ahead) {
  slope_of_row(dx, dy, x, n, f, weight, stores, ahead);
  after(stores);
}

template <class S>
SIMDNORM_KERNEL void slope_columns(S* dx, const S* dy, const S* x, Periodic at, SlopeColumns<Value<S>> f,
                                   Stores stores) {
  map_columns(dx, at, stores, [&](size_t i, size_t j, auto lanes) {
    const auto of_x = (load(x + i, lanes) - load(f.center + j, All{})) * load(f.x_factor + j, All{});
    return load(dy + i, lanes) * load(f.dy_factor + j, All{}) + of_x + load(f.constant + j, All{});
  });
  after(stores);
}

template <class S>
SIMDNORM_KERNEL void slope_by_row(S* dx, const S* dy, const S* x, Rows rows, SlopeColumns<Value<S>> f) {
  using T = Value<S>;
  const auto each = [&](auto h) {
    for (size_t row = 0; row < rows.count; row++) {
      for_each_vector(rows.n, [&](size_t j, auto lanes) {
        const size_t i = row * rows.stride + j;
        const Vec<T> of_x = (load(x + i, lanes) - load(f.center + j, lanes)) * load(f.x_factor + j, lanes);
        const Vec<T> of_dy = h(row, load(dy + i, lanes)) * load(f.dy_factor + j, lanes);
        store(dx + i, of_dy + of_x + load(f.constant + j, lanes), lanes);
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
