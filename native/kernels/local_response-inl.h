// Local response normalization: sums over a window, y, and dx. See kernels-inl.h.
#include <stddef.h>

#include "native/kernels/kernels.h"

namespace simdnorm {
namespace SIMDNORM_ISA {
namespace {

template <class S>
SIMDNORM_KERNEL void squares(double* squares, const S* x, size_t n) {
  for_each_vector(n, [&](size_t i, auto lanes) {
    const Vec<double> v = Loader<double>::at(x + i, lanes);
    store(squares + i, v * v, lanes);
  });
}

template <class L>
inline Vec<double> window_sum(const double* terms, size_t step, size_t window, L lanes) {
  Vec<double> sum = load(terms, lanes);
  for (size_t i = 1; i < window; i++) sum = sum + load(terms + i * step, lanes);
  return sum;
}

// Elements that a kernel takes through one loop after the other: what is between the load of a square and the store of
// y is a chain of a hundred cycles, more than a core looks ahead. Short loops ran in 0.7 of the time (AVX-512).
constexpr size_t kResponses = 128;

// a / s^beta by name of the power, so that a loop knows which, for the s of one strip at a time.
struct OverRoot {
  void prepare(const double*, size_t) {}
  Vec<double> operator()(Vec<double> a, const double* s, size_t i) const {
    return a / square_root(Vec<double>::load(s + i));
  }
};
template <class T>
struct OverRootOfCube {
  void prepare(const double*, size_t) {}
  Vec<double> operator()(Vec<double> a, const double* s, size_t i) const {
    const Vec<double> root = square_root(Vec<double>::load(s + i));
    return a / (root * square_root(root));
  }
};
template <>
struct OverRootOfCube<float> {
  alignas(64) double rough[kResponses], mended[kResponses];
  const double* from;

  OverRootOfCube() {}  // filling the arrays with zeros would take longer than a short row
  void prepare(const double* s, size_t n) {
    uint32_t all = bits(All{});
    for (size_t i = 0; i < n; i += kLanes) {
      uint32_t good;
      widen(rough_power(narrow(Vec<double>::load(s + i)), good)).store(rough + i);
      all &= good;
    }
    from = s;
    if (__builtin_expect(all == bits(All{}), 1)) return;
    for (size_t i = 0; i < n; i++) mended[i] = s[i];
    mend(rough, mended, n);
    from = mended;
  }
  Vec<double> operator()(Vec<double> a, const double*, size_t i) const {
    return over_root_of_cube(a, Vec<double>::load(from + i), Vec<double>::load(rough + i));
  }
};
struct OverItself {
  void prepare(const double*, size_t) {}
  Vec<double> operator()(Vec<double> a, const double* s, size_t i) const { return a / Vec<double>::load(s + i); }
};
struct OverAny {
  double beta;
  alignas(64) double divisor[kResponses];

  explicit OverAny(double beta) : beta(beta) {}
  void prepare(const double* s, size_t n) { raise(divisor, s, n, beta); }
  Vec<double> operator()(Vec<double> a, const double*, size_t i) const { return a / Vec<double>::load(divisor + i); }
};

// body(i, lanes, s, over) for each vector of [0, n), with over(a) = a / s^beta.
template <class Over, class Body>
inline void over_strips(Over&& over, const double* squares, size_t step, size_t window, size_t n, Response f,
                        Body body) {
  const Vec<double> k(f.k), scale(f.scale);
  alignas(64) double s[kResponses];
  for (size_t begin = 0; begin < n; begin += kResponses) {
    const size_t length = least(kResponses, n - begin);
    for_each_vector(length, [&](size_t j, auto lanes) {
      (k + scale * window_sum(squares + begin + j, step, window, lanes)).store(s + j);
    });
    over.prepare(s, (length + kLanes - 1) / kLanes * kLanes);
    for_each_vector(length, [&](size_t j, auto lanes) {
      body(begin + j, lanes, Vec<double>::load(s + j), [&](Vec<double> a) { return over(a, s, j); });
    });
  }
}

// The same, by the value of beta.
template <class T, class Body>
inline void each_response(const double* squares, size_t step, size_t window, size_t n, Response f, Body body) {
  if (f.beta == 0.75) {
    over_strips(OverRootOfCube<T>(), squares, step, window, n, f, body);
  } else if (f.beta == 0.5) {
    over_strips(OverRoot{}, squares, step, window, n, f, body);
  } else if (f.beta == 1) {
    over_strips(OverItself{}, squares, step, window, n, f, body);
  } else {
    over_strips(OverAny(f.beta), squares, step, window, n, f, body);
  }
}

template <class S>
SIMDNORM_KERNEL void respond(S* y, const S* x, const double* squares, size_t step, size_t window, size_t n,
                             Response f) {
  each_response<Value<S>>(squares, step, window, n, f, [=](size_t i, auto lanes, Vec<double>, auto over) {
    store_rounded(y + i, over(Loader<double>::at(x + i, lanes)), lanes);
  });
}

template <class S>
SIMDNORM_KERNEL void respond_back(double* direct, double* ratio, const S* dy, const S* x, const double* squares,
                                  size_t step, size_t window, size_t n, Response f) {
  each_response<Value<S>>(squares, step, window, n, f, [=](size_t i, auto lanes, Vec<double> s, auto over) {
    const Vec<double> d = over(Loader<double>::at(dy + i, lanes));
    store(direct + i, d, lanes);
    store(ratio + i, d * Loader<double>::at(x + i, lanes) / s, lanes);
  });
}

template <class S>
SIMDNORM_KERNEL void respond_slope(S* dx, const S* x, const double* direct, const double* ratio, size_t step,
                                   size_t window, size_t n, double factor) {
  const Vec<double> scale(factor);
  for_each_vector(n, [&](size_t i, auto lanes) {
    const Vec<double> shared = scale * window_sum(ratio + i, step, window, lanes);
    store_rounded(dx + i, load(direct + i, lanes) - Loader<double>::at(x + i, lanes) * shared, lanes);
  });
}

// Blocks as long as the window, sums from each row to the end of its block, sums from the beginning of a block to each
// row: a window ends in the block it begins in or in the next, and is one of each (van Herk 1992, Gil & Werman 1993).
template <class V, class Load, class Store>
inline void sum_windows(double* terms, double* rest, size_t rows, size_t before, size_t after, Load load, Store store) {
  const size_t window = before + 1 + after;
  for (size_t begin = 0; begin < rows; begin += window) {
    const size_t end = least(rows, begin + window);
    V sum = load(terms, end - 1);
    store(rest, end - 1, sum);
    for (size_t i = end - 1; i > begin; i--) {
      sum = load(terms, i - 1) + sum;
      store(rest, i - 1, sum);
    }
  }
  // Row i is written when `head` has been past it.
  V head = load(terms, 0);
  size_t last = 0, in_block = 0;
  size_t first_in_block = 0;  // of the window's first row
  for (size_t i = 0; i < rows; i++) {
    for (const size_t end = least(rows - 1, i + after); last < end;) {
      last++;
      const bool next = ++in_block == window;
      if (next) in_block = 0;
      head = next ? load(terms, last) : head + load(terms, last);
    }
    const size_t first = i > before ? i - before : 0;
    if (i > before && ++first_in_block == window) first_in_block = 0;
    if (first_in_block == 0) {
      store(terms, i, head);
    } else if (last - in_block <= first) {
      store(terms, i, load(rest, first));
    } else {
      store(terms, i, load(rest, first) + head);
    }
  }
}

SIMDNORM_KERNEL void window_sums(double* terms, double* rest, size_t stride, size_t rows, size_t cols, size_t before,
                                 size_t after) {
  if (cols == 1) {
    sum_windows<double>(
        terms, rest, rows, before, after, [=](const double* p, size_t i) { return p[i * stride]; },
        [=](double* p, size_t i, double v) { p[i * stride] = v; });
    return;
  }
  for_each_vector(cols, [&](size_t j, auto lanes) {
    sum_windows<Vec<double>>(
        terms + j, rest + j, rows, before, after,
        [&](const double* p, size_t i) { return load(p + i * stride, lanes); },
        [&](double* p, size_t i, Vec<double> v) { store(p + i * stride, v, lanes); });
  });
}

}  // namespace
}  // namespace SIMDNORM_ISA
}  // namespace simdnorm
