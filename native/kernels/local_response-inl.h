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

// s^beta by name, so that a loop knows which.
struct Root {
  Vec<double> operator()(Vec<double> s) const { return square_root(s); }
};
struct RootOfCube {
  Vec<double> operator()(Vec<double> s) const {
    const Vec<double> root = square_root(s);
    return root * square_root(root);
  }
};
struct Itself {
  Vec<double> operator()(Vec<double> s) const { return s; }
};
struct Any {
  double beta;
  Vec<double> operator()(Vec<double> s) const {
    double lanes[kLanes];
    s.store(lanes);
    raise(lanes, beta);
    return Vec<double>::load(lanes);
  }
};

// body(power), by the value of beta.
template <class Body>
inline void with_power(double beta, Body body) {
  if (beta == 0.75) {
    body(RootOfCube{});
  } else if (beta == 0.5) {
    body(Root{});
  } else if (beta == 1) {
    body(Itself{});
  } else {
    body(Any{beta});
  }
}

template <class S>
SIMDNORM_KERNEL void respond(S* y, const S* x, const double* squares, size_t step, size_t window, size_t n,
                             Response f) {
  const Vec<double> k(f.k), scale(f.scale);
  with_power(f.beta, [&](auto power) {
    for_each_vector(n, [&](size_t i, auto lanes) {
      const Vec<double> s = k + scale * window_sum(squares + i, step, window, lanes);
      store_rounded(y + i, Loader<double>::at(x + i, lanes) / power(s), lanes);
    });
  });
}

template <class S>
SIMDNORM_KERNEL void respond_back(double* direct, double* ratio, const S* dy, const S* x, const double* squares,
                                  size_t step, size_t window, size_t n, Response f) {
  const Vec<double> k(f.k), scale(f.scale);
  with_power(f.beta, [&](auto power) {
    for_each_vector(n, [&](size_t i, auto lanes) {
      const Vec<double> s = k + scale * window_sum(squares + i, step, window, lanes);
      const Vec<double> d = Loader<double>::at(dy + i, lanes) / power(s);
      store(direct + i, d, lanes);
      store(ratio + i, d * Loader<double>::at(x + i, lanes) / s, lanes);
    });
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
