// y from x, and which of its elements a ReLU let through. See kernels-inl.h.
#include <stddef.h>

#include "native/kernels/kernels.h"

namespace simdnorm {
namespace SIMDNORM_ISA {
namespace {

// body(y) with y(i, lanes) of a stretch before its ReLU; `add` may be null.
template <class S, class Y, class Body>
inline void with_addend(const S* add, Y y, Body body) {
  if (add) {
    body([&](size_t i, auto lanes) { return y(i, lanes) + load(add + i, lanes); });
  } else {
    body(y);
  }
}

// body(run, y) for each of the runs.
template <class S, class Body>
inline void along_runs(const S* x, size_t n, size_t runs, const Affine<Value<S>>* f, const S* add, Body body) {
  using T = Value<S>;
  for (size_t run = 0; run < runs; run++) {
    const Vec<T> center(f[run].center), scale(f[run].scale), shift(f[run].shift);
    const S* from = x + run * n;
    const auto y = [&](size_t i, auto lanes) { return (load(from + i, lanes) - center) * scale + shift; };
    with_addend(add ? add + run * n : nullptr, y, [&](auto sum) { body(run * n, sum); });
  }
}

template <class S, class Body>
inline void along_elements(const S* x, Affine<Value<S>> f, const Value<S>* weight, const Value<S>* bias, const S* add,
                           Body body) {
  using T = Value<S>;
  const Vec<T> center(f.center), scale(f.scale), shift(f.shift);
  const auto x_hat = [&](size_t i, auto lanes) { return (load(x + i, lanes) - center) * scale + shift; };
  const auto each = [&](auto y) { with_addend(add, y, body); };
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
inline void down(const S* x, Rows rows, AffineColumns<Value<S>> f, const S* add, Write write) {
  using T = Value<S>;
  const auto each = [&](auto y) {
    for (size_t row = 0; row < rows.count; row++) {
      for_each_vector(rows.n, [&](size_t j, auto lanes) {
        const size_t i = row * rows.stride + j;
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
  } else {
    each([&](size_t, size_t row, Vec<T> v, auto) { return by_row(row, v); });
  }
}

// No branch for the ReLU: a limit of -Infinity changes nothing.
template <class T>
inline Vec<T> limit_of(bool relu) {
  return Vec<T>(relu ? T(0) : -static_cast<T>(__builtin_inf()));
}

inline void after(Stores stores) {
  if (stores == Stores::kStreamed) end_of_streams();
}

template <class S>
SIMDNORM_KERNEL void apply_runs(S* y, const S* x, size_t n, size_t runs, const Affine<Value<S>>* f, Finish<S> finish,
                                Stores stores, size_t ahead) {
  const auto limit = limit_of<Value<S>>(finish.relu);
  along_runs(x, n, runs, f, finish.add, [&](size_t at, auto sum) {
    map(y + at, n, stores, [&](size_t i, auto lanes) {
      prefetch(x + at + i, ahead);
      return at_least(sum(i, lanes), limit);
    });
  });
  after(stores);
}

template <class S>
inline void apply_to_row(S* y, const S* x, size_t n, Affine<Value<S>> f, const Value<S>* weight, const Value<S>* bias,
                         Finish<S> finish, Stores stores, size_t ahead) {
  const auto limit = limit_of<Value<S>>(finish.relu);
  along_elements(x, f, weight, bias, finish.add, [&](auto sum) {
    map(y, n, stores, [&](size_t i, auto lanes) {
      prefetch(x + i, ahead);
      return at_least(sum(i, lanes), limit);
    });
  });
}

template <class S>
SIMDNORM_KERNEL void apply_elements(S* y, const S* x, size_t n, Affine<Value<S>> f, const Value<S>* weight,
                                    const Value<S>* bias, Finish<S> finish, Stores stores) {
  apply_to_row(y, x, n, f, weight, bias, finish, stores, 0);
  after(stores);
}

template <class S>
SIMDNORM_KERNEL void apply_columns(S* y, const S* x, Periodic at, AffineColumns<Value<S>> f, Finish<S> finish,
                                   Stores stores) {
  const auto limit = limit_of<Value<S>>(finish.relu);
  const auto value = [&](size_t i, size_t j, auto lanes) {
    return (load(x + i, lanes) - load(f.center + j, All{})) * load(f.scale + j, All{}) + load(f.shift + j, All{});
  };
  if (finish.add) {
    map_columns(y, at, stores, [&](size_t i, size_t j, auto lanes) {
      return at_least(value(i, j, lanes) + load(finish.add + i, lanes), limit);
    });
  } else {
    map_columns(y, at, stores, [&](size_t i, size_t j, auto lanes) { return at_least(value(i, j, lanes), limit); });
  }
  after(stores);
}

template <class S>
SIMDNORM_KERNEL void apply_by_row(S* y, const S* x, Rows rows, AffineColumns<Value<S>> f, Finish<S> finish) {
  const auto limit = limit_of<Value<S>>(finish.relu);
  down(x, rows, f, finish.add, [&](size_t i, auto v, auto lanes) { store(y + i, at_least(v, limit), lanes); });
}

template <class S>
SIMDNORM_KERNEL void gate_runs(S* g, const S* dy, const S* x, size_t n, size_t runs, const Affine<Value<S>>* f,
                               const S* add) {
  along_runs(x, n, runs, f, add, [&](size_t at, auto sum) {
    map(g + at, n, Stores::kCached,
        [&](size_t i, auto lanes) { return keep_open(load(dy + at + i, lanes), sum(i, lanes)); });
  });
}

template <class S>
SIMDNORM_KERNEL void gate_elements(S* g, const S* dy, const S* x, size_t n, Affine<Value<S>> f, const Value<S>* weight,
                                   const Value<S>* bias, const S* add) {
  along_elements(x, f, weight, bias, add, [&](auto sum) {
    map(g, n, Stores::kCached, [&](size_t i, auto lanes) { return keep_open(load(dy + i, lanes), sum(i, lanes)); });
  });
}

template <class S>
SIMDNORM_KERNEL void gate_by_row(S* g, const S* dy, const S* x, Rows rows, AffineColumns<Value<S>> f, const S* add) {
  down(x, rows, f, add, [&](size_t i, auto v, auto lanes) { store(g + i, keep_open(load(dy + i, lanes), v), lanes); });
}

}  // namespace
}  // namespace SIMDNORM_ISA
}  // namespace simdnorm
