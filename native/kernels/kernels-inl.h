// The kernels, written once over Vec<T> and compiled for each ISA. Included by <isa>.cc only, after its vec_<isa>.h.
// Contracts are in kernels.h. Nothing here may be shared with other files, not even a std:: template (docs/adding.md).
#include <float.h>
#include <stddef.h>
#include <stdint.h>

#include "native/kernels/kernels.h"

namespace simdnorm {
namespace SIMDNORM_ISA {
namespace {

// Every lane, or the first n of them with zeros behind.
struct All {};
struct First {
  size_t n;
};

template <class T>
inline Vec<T> load(const T* p, All) {
  return Vec<T>::load(p);
}
template <class T>
inline Vec<T> load(const T* p, First first) {
  return Vec<T>::load_first(p, first.n);
}
template <class T>
inline Vec<T> keep(Vec<T> v, All) {
  return v;
}
template <class T>
inline Vec<T> keep(Vec<T> v, First first) {
  return v.keep_first(first.n);
}
inline uint32_t bits(All) { return 0xffff; }
inline uint32_t bits(First first) { return (1u << first.n) - 1; }
template <class T>
inline void store(T* p, Vec<T> v, All) {
  v.store(p);
}
template <class T>
inline void store(T* p, Vec<T> v, First first) {
  v.store_first(p, first.n);
}

// Element i of x onwards, in the type A that sums are taken in.
template <class A, class T>
struct Loader;
template <class T>
struct Loader<T, T> {
  template <class L>
  static Vec<T> at(const T* p, L lanes) {
    return load(p, lanes);
  }
};
template <>
struct Loader<double, float> {
  template <class L>
  static Vec<double> at(const float* p, L lanes) {
    return widen(load(p, lanes));
  }
};

// body(i, lanes) for each vector of [0, n).
template <class Body>
inline void for_each_vector(size_t n, Body body) {
  size_t i = 0;
  for (; i + kLanes <= n; i += kLanes) body(i, All{});
  if (i < n) body(i, First{n - i});
}

inline size_t least(size_t a, size_t b) { return a < b ? a : b; }

// ---- two sums at once ----

template <class A>
struct Terms {
  Vec<A> a, b;
};
struct Sums {
  double a, b;
};

// The lanes that take the additions are emptied into others, of double, after kChain pairs: data that round the same way
// at every step (two values, say) err with the length of the chain. 32 additions of floats stay within 16.5 * 2^-24 =
// 1e-6, where 128 of them, a whole block, would allow 4e-6; 16 of doubles keep 15.5 digits of NIST's NumAcc3, where 64
// leave 15.3.
template <class A>
class Accumulator;

template <>
class Accumulator<float> {
 public:
  static constexpr size_t kChain = 32;
  void even(Terms<float> t) {
    a0_ = a0_ + t.a;
    b0_ = b0_ + t.b;
  }
  void odd(Terms<float> t) {
    a1_ = a1_ + t.a;
    b1_ = b1_ + t.b;
  }
  void flush() {
    a_ = a_ + widen(a0_ + a1_);
    b_ = b_ + widen(b0_ + b1_);
    a0_ = a1_ = b0_ = b1_ = Vec<float>();
  }
  Terms<double> total() {
    flush();
    return {a_, b_};
  }

 private:
  Vec<float> a0_, a1_, b0_, b1_;
  Vec<double> a_, b_;
};

// One set of lanes is enough here: sixteen doubles are at least two registers, hence two independent chains.
template <>
class Accumulator<double> {
 public:
  static constexpr size_t kChain = 8;
  void even(Terms<double> t) {
    a0_ = a0_ + t.a;
    b0_ = b0_ + t.b;
  }
  void odd(Terms<double> t) { even(t); }
  void flush() {
    a_ = a_ + a0_;
    b_ = b_ + b0_;
    a0_ = b0_ = Vec<double>();
  }
  Terms<double> total() {
    flush();
    return {a_, b_};
  }

 private:
  Vec<double> a0_, b0_, a_, b_;
};

// Along the data: terms(i, lanes) summed over `pieces` stretches of n elements.
template <class A, class F>
inline Sums sum_along(size_t stride, size_t pieces, size_t n, F terms) {
  Accumulator<A> acc;
  constexpr size_t kChain = Accumulator<A>::kChain;
  size_t left = kChain;
  for (size_t piece = 0; piece < pieces; piece++) {
    size_t i = piece * stride;
    const size_t end = i + n;
    while (end - i >= 2 * kLanes) {
      size_t steps = least((end - i) / (2 * kLanes), left);
      left -= steps;
      for (; steps > 0; steps--, i += 2 * kLanes) {
        acc.even(terms(i, All{}));
        acc.odd(terms(i + kLanes, All{}));
      }
      if (left == 0) {
        acc.flush();
        left = kChain;
      }
    }
    if (i == end) continue;
    if (end - i >= kLanes) {
      acc.even(terms(i, All{}));
      i += kLanes;
    }
    if (i < end) acc.odd(terms(i, First{end - i}));
    if (--left == 0) {
      acc.flush();
      left = kChain;
    }
  }
  const Terms<double> total = acc.total();
  return {sum(total.a), sum(total.b)};
}

// Down the columns, a vector of columns at once: terms(row) summed over the rows.
template <class A, class F>
inline Terms<double> sum_down(size_t rows, F terms) {
  Accumulator<A> acc;
  for (size_t row = 0; row < rows;) {
    const size_t end = least(rows, row + 2 * Accumulator<A>::kChain);
    for (; row + 2 <= end; row += 2) {
      acc.even(terms(row));
      acc.odd(terms(row + 1));
    }
    if (row < end) acc.even(terms(row++));
    acc.flush();
  }
  return acc.total();
}

// ---- moments ----
//
// One pass over deviations from a shift taken from the data's own first elements; M2 = sum d^2 - (sum d)^2 / n. Taken
// again about its own mean when the shift was bad, so that the difference never cancels more than a quarter away; and
// in double when float squares overflowed or could have vanished.

// Elements behind the first guess of the mean.
constexpr size_t kGuess = 2 * kLanes;

// Squares below 2^-126 lose digits or vanish, at most 2^-150 each: n of them hide below 2^-24 of a sum of n * 2^-126.
constexpr double kTinySquare = 0x1p-126;

inline bool float_squares_hold(double squares, double n) { return squares <= FLT_MAX && squares >= n * kTinySquare; }
inline bool shift_holds(Sums s, double n) { return s.a * s.a <= s.b * (n * 0.25); }

template <class A, class T>
inline Sums deviations(const T* x, size_t stride, size_t pieces, size_t n, A shift) {
  const Vec<A> center(shift);
  return sum_along<A>(stride, pieces, n, [=](size_t i, auto lanes) {
    const Vec<A> d = keep(Loader<A, T>::at(x + i, lanes) - center, lanes);
    return Terms<A>{d, d * d};
  });
}

inline Moments about(double shift, Sums s, double n) {
  const double offset = s.a / n;
  const double m2 = s.b - s.a * offset;
  Moments m = {n, 0, 0, m2 < 0 ? 0 : m2, 0};
  m.mean = two_sum<double>(shift, offset, m.mean_low);
  return m;
}

// In double throughout, about the data's own mean.
template <class T>
inline Moments moments_in_double(const T* x, size_t stride, size_t pieces, size_t n, double guess) {
  const double count = static_cast<double>(pieces) * static_cast<double>(n);
  const double mean = guess + deviations<double, T>(x, stride, pieces, n, guess).a / count;
  return about(mean, deviations<double, T>(x, stride, pieces, n, mean), count);
}

// x[0] plus the mean distance of the first elements from it: exactly x[0] for constant data.
template <class T>
inline T guess_mean(const T* x, size_t stride, size_t pieces, size_t n) {
  const size_t used = n >= kGuess ? 1 : least(pieces, kGuess / n);
  const size_t length = least(n, kGuess);
  const double distance = deviations<T, T>(x, stride, used, length, x[0]).a;
  return static_cast<T>(static_cast<double>(x[0]) + distance / static_cast<double>(used * length));
}

// One stretch of at most two vectors: no chains, no trust to test, two passes in double.
template <class T>
inline Moments moments_of_few(const T* x, size_t n, About origin) {
  const size_t head = least(n, kLanes), tail = n - head;
  const Vec<double> a = widen(Vec<T>::load_first(x, head));
  const Vec<double> b = tail > 0 ? widen(Vec<T>::load_first(x + kLanes, tail)) : Vec<double>();
  const double count = static_cast<double>(n), first = static_cast<double>(x[0]);
  const auto distances = [=](double from) {
    const Vec<double> center(from);
    return Terms<double>{(a - center).keep_first(head), tail > 0 ? (b - center).keep_first(tail) : Vec<double>()};
  };
  if (origin == About::kZero) return {count, 0, 0, sum(a * a + b * b), 0};
  Terms<double> d = distances(first);
  const double mean = first + sum(d.a + d.b) / count;
  d = distances(mean);
  return about(mean, {sum(d.a + d.b), sum(d.a * d.a + d.b * d.b)}, count);
}

template <class T>
Moments moments(const T* x, size_t stride, size_t pieces, size_t n, About origin) {
  const double count = static_cast<double>(pieces) * static_cast<double>(n);
  const bool narrow = sizeof(T) == sizeof(float);
  if (pieces == 1 && n <= 2 * kLanes) return moments_of_few(x, n, origin);
  if (origin == About::kZero) {
    Sums s = deviations<T, T>(x, stride, pieces, n, T(0));
    if (narrow && !float_squares_hold(s.b, count)) s = deviations<double, T>(x, stride, pieces, n, 0.0);
    return {count, 0, 0, s.b, 0};
  }
  T shift = guess_mean(x, stride, pieces, n);
  Sums s = deviations<T, T>(x, stride, pieces, n, shift);
  if (!shift_holds(s, count)) {
    shift = static_cast<T>(static_cast<double>(shift) + s.a / count);
    s = deviations<T, T>(x, stride, pieces, n, shift);
  }
  if (narrow && !(float_squares_hold(s.b, count) && shift_holds(s, count))) {
    return moments_in_double(x, stride, pieces, n, static_cast<double>(x[0]));
  }
  return about(static_cast<double>(shift), s, count);
}

// One vector of columns, its deviations from `shift`.
template <class A, class T, class L>
inline Terms<double> column_deviations(const T* x, size_t stride, size_t rows, L lanes, Vec<A> shift) {
  return sum_down<A>(rows, [=](size_t row) {
    const Vec<A> d = Loader<A, T>::at(x + row * stride, lanes) - shift;
    return Terms<A>{d, d * d};
  });
}

// What one vector of columns came to: per lane, the shift and the two sums of deviations from it.
struct ColumnSums {
  double shift[kLanes], a[kLanes], b[kLanes];

  template <class T>
  void set(Vec<T> s, Terms<double> t, uint32_t which) {
    double next_shift[kLanes], next_a[kLanes], next_b[kLanes];
    widen(s).store(next_shift);
    t.a.store(next_a);
    t.b.store(next_b);
    for (size_t i = 0; i < kLanes; i++) {
      if (!(which >> i & 1)) continue;
      shift[i] = next_shift[i];
      a[i] = next_a[i];
      b[i] = next_b[i];
    }
  }
  // shift + mean deviation, rounded to T
  template <class T>
  Vec<T> means(double n) const {
    T mean[kLanes];
    for (size_t i = 0; i < kLanes; i++) mean[i] = static_cast<T>(shift[i] + a[i] / n);
    return Vec<T>::load(mean);
  }
};

template <class T>
inline uint32_t columns_that_hold(Terms<double> s, double n, bool centered) {
  uint32_t good = 0xffff;
  if (sizeof(T) == sizeof(float)) {
    good &= at_most(s.b, Vec<double>(FLT_MAX)) & at_most(Vec<double>(n * kTinySquare), s.b);
  }
  if (centered) good &= at_most(s.a * s.a, s.b * Vec<double>(n * 0.25));
  return good;
}

// The rare way: lanes that do not hold are taken again, one by one independent of their neighbours.
template <class T, class L>
ColumnSums mend_columns(const T* x, size_t stride, size_t rows, L lanes, Vec<T> shift, Terms<double> s,
                        bool centered) {
  const double n = static_cast<double>(rows);
  ColumnSums out;
  out.set(shift, s, 0xffff);
  uint32_t bad = ~columns_that_hold<T>(s, n, centered);
  if (centered) {
    shift = out.means<T>(n);
    s = column_deviations<T, T>(x, stride, rows, lanes, shift);
    out.set(shift, s, bad);
    if (sizeof(T) == sizeof(float)) bad &= ~columns_that_hold<T>(s, n, centered);
  }
  if (sizeof(T) == sizeof(float) && (bad & 0xffff)) {
    Vec<double> mean;
    if (centered) {
      mean = Loader<double, T>::at(x, lanes);
      ColumnSums wide;
      wide.set(mean, column_deviations<double, T>(x, stride, rows, lanes, mean), 0xffff);
      mean = wide.means<double>(n);
    }
    out.set(mean, column_deviations<double, T>(x, stride, rows, lanes, mean), bad);
  }
  return out;
}

template <class T>
void moments_columns(const T* x, size_t stride, size_t rows, size_t cols, About origin, double count,
                     Spread<double*> into) {
  const double n = static_cast<double>(rows);
  const bool centered = origin == About::kMean;
  for_each_vector(cols, [=](size_t j, auto lanes) {
    const T* p = x + j;
    Vec<T> shift;
    if (centered) {
      const size_t used = least(rows, 8);
      shift = load(p, lanes);
      Vec<T> distance;
      for (size_t row = 1; row < used; row++) distance = distance + (load(p + row * stride, lanes) - shift);
      shift = shift + distance / Vec<T>(static_cast<T>(used));
    }
    Terms<double> s = column_deviations<T, T>(p, stride, rows, lanes, shift);
    Vec<double> origin_of = widen(shift);
    if (bits(lanes) & ~columns_that_hold<T>(s, n, centered)) {
      const ColumnSums mended = mend_columns(p, stride, rows, lanes, shift, s, centered);
      s = {Vec<double>::load(mended.a), Vec<double>::load(mended.b)};
      origin_of = Vec<double>::load(mended.shift);
    }
    Spread<Vec<double>> part;
    if (centered) {
      const Vec<double> offset = s.a / Vec<double>(n);
      part.mean = two_sum(origin_of, offset, part.mean_low);
      part.m2 = not_negative(s.b - s.a * offset);
    } else {
      part.m2 = s.b;
    }
    Spread<Vec<double>> all = part;
    if (count > 0) {
      all = {load(into.mean + j, lanes), load(into.mean_low + j, lanes), load(into.m2 + j, lanes),
             load(into.m2_low + j, lanes)};
      merge(all, count, part, n);
    }
    store(into.mean + j, all.mean, lanes);
    store(into.mean_low + j, all.mean_low, lanes);
    store(into.m2 + j, all.m2, lanes);
    store(into.m2_low + j, all.m2_low, lanes);
  });
}

// ---- y from x ----

template <class T>
void apply(T* y, const T* x, size_t n, Affine<T> f) {
  const Vec<T> center(f.center), scale(f.scale), shift(f.shift);
  for_each_vector(n, [=](size_t i, auto lanes) { store(y + i, (load(x + i, lanes) - center) * scale + shift, lanes); });
}

template <class T>
void apply_elements(T* y, const T* x, size_t n, Affine<T> f, const T* weight, const T* bias) {
  const Vec<T> center(f.center), scale(f.scale), shift(f.shift);
  const auto x_hat = [=](size_t i, auto lanes) { return (load(x + i, lanes) - center) * scale + shift; };
  if (weight && bias) {
    for_each_vector(n, [=](size_t i, auto lanes) {
      store(y + i, x_hat(i, lanes) * load(weight + i, lanes) + load(bias + i, lanes), lanes);
    });
  } else if (weight) {
    for_each_vector(n, [=](size_t i, auto lanes) { store(y + i, x_hat(i, lanes) * load(weight + i, lanes), lanes); });
  } else if (bias) {
    for_each_vector(n, [=](size_t i, auto lanes) { store(y + i, x_hat(i, lanes) + load(bias + i, lanes), lanes); });
  } else {
    apply(y, x, n, f);
  }
}

template <class T>
void apply_columns(T* y, const T* x, size_t stride, size_t rows, size_t cols, AffineColumns<T> f) {
  for (size_t row = 0; row < rows; row++, x += stride, y += stride) {
    for_each_vector(cols, [=](size_t j, auto lanes) {
      const Vec<T> d = load(x + j, lanes) - load(f.center + j, lanes);
      store(y + j, d * load(f.scale + j, lanes) + load(f.shift + j, lanes), lanes);
    });
  }
}

// ---- sums of gradients ----

template <class T>
GradSums grad_sums(const T* dy, const T* x, size_t stride, size_t pieces, size_t n, T center, T scale) {
  const Vec<T> c(center), r(scale);
  const Sums s = sum_along<T>(stride, pieces, n, [=](size_t i, auto lanes) {
    const Vec<T> g = load(dy + i, lanes);
    return Terms<T>{g, g * keep((load(x + i, lanes) - c) * r, lanes)};
  });
  return {s.a, s.b};
}

template <class T>
GradSums grad_sums_elements(const T* dy, const T* x, size_t n, Affine<T> f, const T* weight) {
  const Vec<T> center(f.center), scale(f.scale), shift(f.shift);
  const auto terms = [=](size_t i, Vec<T> g, auto lanes) {
    return Terms<T>{g, g * keep((load(x + i, lanes) - center) * scale + shift, lanes)};
  };
  const Sums s = weight ? sum_along<T>(0, 1, n,
                                       [=](size_t i, auto lanes) {
                                         return terms(i, load(dy + i, lanes) * load(weight + i, lanes), lanes);
                                       })
                        : sum_along<T>(0, 1, n, [=](size_t i, auto lanes) { return terms(i, load(dy + i, lanes), lanes); });
  return {s.a, s.b};
}

template <class L>
inline void add_to(double* p, Vec<double> v, L lanes) {
  store(p, load(p, lanes) + v, lanes);
}

template <class T>
void grad_columns(const T* dy, const T* x, size_t stride, size_t rows, size_t cols, const T* center, const T* scale,
                  double* sum_dy, double* sum_dy_xhat) {
  for_each_vector(cols, [=](size_t j, auto lanes) {
    const Vec<T> c = load(center + j, lanes), r = load(scale + j, lanes);
    const Terms<double> s = sum_down<T>(rows, [=](size_t row) {
      const Vec<T> g = load(dy + row * stride + j, lanes);
      return Terms<T>{g, g * ((load(x + row * stride + j, lanes) - c) * r)};
    });
    add_to(sum_dy + j, s.a, lanes);
    add_to(sum_dy_xhat + j, s.b, lanes);
  });
}

template <class T>
void grad_columns_by_row(const T* dy, const T* x, size_t stride, size_t rows, size_t cols, const Affine<T>* f,
                         double* sum_dy, double* sum_dy_xhat) {
  for_each_vector(cols, [=](size_t j, auto lanes) {
    const Terms<double> s = sum_down<T>(rows, [=](size_t row) {
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
void slope(T* dx, const T* dy, const T* x, size_t n, Slope<T> f) {
  const Vec<T> center(f.center), scale(f.scale), a(f.dy_factor), b(f.x_factor), c(f.constant);
  for_each_vector(n, [=](size_t i, auto lanes) {
    const Vec<T> x_hat = (load(x + i, lanes) - center) * scale;
    store(dx + i, load(dy + i, lanes) * a + x_hat * b + c, lanes);
  });
}

template <class T>
void slope_elements(T* dx, const T* dy, const T* x, size_t n, Affine<T> f, const T* weight, T dy_factor, T x_factor,
                    T constant) {
  const Vec<T> center(f.center), scale(f.scale), shift(f.shift), a(dy_factor), b(x_factor), c(constant);
  const auto dx_of = [=](size_t i, Vec<T> g, auto lanes) {
    const Vec<T> x_hat = (load(x + i, lanes) - center) * scale + shift;
    store(dx + i, g * a + x_hat * b + c, lanes);
  };
  if (weight) {
    for_each_vector(n, [=](size_t i, auto lanes) { dx_of(i, load(dy + i, lanes) * load(weight + i, lanes), lanes); });
  } else {
    for_each_vector(n, [=](size_t i, auto lanes) { dx_of(i, load(dy + i, lanes), lanes); });
  }
}

template <class T>
void slope_columns(T* dx, const T* dy, const T* x, size_t stride, size_t rows, size_t cols, SlopeColumns<T> f) {
  for (size_t row = 0; row < rows; row++, x += stride, dy += stride, dx += stride) {
    for_each_vector(cols, [=](size_t j, auto lanes) {
      const Vec<T> x_hat = (load(x + j, lanes) - load(f.center + j, lanes)) * load(f.scale + j, lanes);
      const Vec<T> dx_j = load(dy + j, lanes) * load(f.dy_factor + j, lanes) + x_hat * load(f.x_factor + j, lanes);
      store(dx + j, dx_j + load(f.constant + j, lanes), lanes);
    });
  }
}

template <class T>
constexpr Kernels<T> kKernels = {
    moments<T>,      moments_columns<T>,    apply<T>,        apply_elements<T>,      apply_columns<T>,
    grad_sums<T>,    grad_sums_elements<T>, grad_columns<T>, grad_columns_by_row<T>, slope<T>,
    slope_elements<T>, slope_columns<T>,
};

}  // namespace
}  // namespace SIMDNORM_ISA

// The one symbol that leaves the file.
#define SIMDNORM_JOIN_(a, b) a##b
#define SIMDNORM_JOIN(a, b) SIMDNORM_JOIN_(a, b)
#define SIMDNORM_QUOTE_(a) #a
#define SIMDNORM_QUOTE(a) SIMDNORM_QUOTE_(a)
extern const KernelTable SIMDNORM_JOIN(k_, SIMDNORM_ISA);
constexpr KernelTable SIMDNORM_JOIN(k_, SIMDNORM_ISA) = {
    SIMDNORM_QUOTE(SIMDNORM_ISA), SIMDNORM_ISA::kKernels<float>, SIMDNORM_ISA::kKernels<double>};

}  // namespace simdnorm
