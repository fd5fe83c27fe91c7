// y from x, and which of its elements a ReLU let through. See kernels-inl.h.
#include <stddef.h>

#include "native/kernels/kernels.h"

namespace simdnorm {
namespace SIMDNORM_ISA {
namespace {

// write(i, y, lanes) for each vector of a stretch; `add` may be null.
template <class S, class Write>
inline void along(const S* x, size_t n, Affine<Value<S>> f, const S* add, Write write) {
  using T = Value<S>;
  const Vec<T> center(f.center), scale(f.scale), shift(f.shift);
  const auto y = [&](size_t i, auto lanes) { return (load(x + i, lanes) - center) * scale + shift; };
  if (add) {
    for_each_vector(n, [&](size_t i, auto lanes) { write(i, y(i, lanes) + load(add + i, lanes), lanes); });
  } else {
    for_each_vector(n, [&](size_t i, auto lanes) { write(i, y(i, lanes), lanes); });
  }
}

template <class S, class Write>
inline void along_elements(const S* x, size_t n, Affine<Value<S>> f, const Value<S>* weight, const Value<S>* bias,
                           const S* add, Write write) {
  using T = Value<S>;
  const Vec<T> center(f.center), scale(f.scale), shift(f.shift);
  const auto x_hat = [&](size_t i, auto lanes) { return (load(x + i, lanes) - center) * scale + shift; };
  const auto each = [&](auto y) {
    if (add) {
      for_each_vector(n, [&](size_t i, auto lanes) { write(i, y(i, lanes) + load(add + i, lanes), lanes); });
    } else {
      for_each_vector(n, [&](size_t i, auto lanes) { write(i, y(i, lanes), lanes); });
    }
  };
  if (weight && bias) {
    each([&](size_t i, auto lanes) { return x_hat(i, lanes) * load(weight + i, lanes) + load(bias + i, lanes); });
  } else if (weight) {
    each([&](size_t i, auto lanes) { return x_hat(i, lanes) * load(weight + i, lanes); });
  } else if (bias) {
    each([&](size_t i, auto lanes) { return x_hat(i, lanes) + load(bias + i, lanes); });
  } else {
    each(x_hat);
  }
}

// write(i, y, lanes), i counting from the first row.
template <class S, class Write>
inline void down(const S* x, size_t stride, size_t rows, size_t cols, AffineColumns<Value<S>> f, const S* add,
                 Write write) {
  using T = Value<S>;
  const auto each = [&](auto y) {
    for (size_t row = 0; row < rows; row++) {
      for_each_vector(cols, [&](size_t j, auto lanes) {
        const size_t i = row * stride + j;
        const Vec<T> x_hat = (load(x + i, lanes) - load(f.center + j, lanes)) * load(f.scale + j, lanes);
        write(i, y(i, row, x_hat + load(f.shift + j, lanes), lanes), lanes);
      });
    }
  };
  const auto by_row = [&](size_t row, Vec<T> v) {
    if (f.row_weight) v = v * Vec<T>(f.row_weight[row]);
    return f.row_bias ? v + Vec<T>(f.row_bias[row]) : v;
  };
  if (add) {
    each([&](size_t i, size_t row, Vec<T> v, auto lanes) { return by_row(row, v) + load(add + i, lanes); });
  } else if (f.row_weight || f.row_bias) {
    each([&](size_t, size_t row, Vec<T> v, auto) { return by_row(row, v); });
  } else {
    each([&](size_t, size_t, Vec<T> v, auto) { return v; });
  }
}

// No branch for the ReLU: a limit of -Infinity changes nothing.
template <class T>
inline Vec<T> limit_of(bool relu) {
  return Vec<T>(relu ? T(0) : -static_cast<T>(__builtin_inf()));
}

template <class S>
SIMDNORM_KERNEL void apply(S* y, const S* x, size_t n, Affine<Value<S>> f, Finish<S> finish) {
  const auto limit = limit_of<Value<S>>(finish.relu);
  along(x, n, f, finish.add, [&](size_t i, auto v, auto lanes) { store(y + i, at_least(v, limit), lanes); });
}

template <class S>
SIMDNORM_KERNEL void apply_elements(S* y, const S* x, size_t n, Affine<Value<S>> f, const Value<S>* weight,
                                    const Value<S>* bias, Finish<S> finish) {
  const auto limit = limit_of<Value<S>>(finish.relu);
  along_elements(x, n, f, weight, bias, finish.add,
                 [&](size_t i, auto v, auto lanes) { store(y + i, at_least(v, limit), lanes); });
}

template <class S>
SIMDNORM_KERNEL void apply_columns(S* y, const S* x, size_t stride, size_t rows, size_t cols, AffineColumns<Value<S>> f,
                                   Finish<S> finish) {
  const auto limit = limit_of<Value<S>>(finish.relu);
  down(x, stride, rows, cols, f, finish.add,
       [&](size_t i, auto v, auto lanes) { store(y + i, at_least(v, limit), lanes); });
}

template <class S>
SIMDNORM_KERNEL void gate(S* g, const S* dy, const S* x, size_t n, Affine<Value<S>> f, const S* add) {
  along(x, n, f, add, [&](size_t i, auto v, auto lanes) { store(g + i, keep_open(load(dy + i, lanes), v), lanes); });
}

template <class S>
SIMDNORM_KERNEL void gate_elements(S* g, const S* dy, const S* x, size_t n, Affine<Value<S>> f, const Value<S>* weight,
                                   const Value<S>* bias, const S* add) {
  along_elements(x, n, f, weight, bias, add,
                 [&](size_t i, auto v, auto lanes) { store(g + i, keep_open(load(dy + i, lanes), v), lanes); });
}

template <class S>
SIMDNORM_KERNEL void gate_columns(S* g, const S* dy, const S* x, size_t stride, size_t rows, size_t cols,
                                  AffineColumns<Value<S>> f, const S* add) {
  down(x, stride, rows, cols, f, add,
       [&](size_t i, auto v, auto lanes) { store(g + i, keep_open(load(dy + i, lanes), v), lanes); });
}

}  // namespace
}  // namespace SIMDNORM_ISA
}  // namespace simdnorm
