// Moments of rows and of columns. See kernels-inl.h.
//
// One pass over deviations from a shift taken from the data's own first elements; M2 = sum d^2 - (sum d)^2 / n. Taken
// again about its own mean when the shift was bad, so that the difference never cancels more than a quarter away; and
// in double when float squares overflowed or could have vanished.
#include <float.h>
#include <stddef.h>
#include <stdint.h>

#include "native/kernels/kernels.h"

namespace simdnorm {
namespace SIMDNORM_ISA {
namespace {

// Elements behind the first guess of the mean.
constexpr size_t kGuess = 2 * kLanes;

// Squares below 2^-126 lose digits or vanish, at most 2^-150 each: n of them hide below 2^-24 of a sum of n * 2^-126.
constexpr double kTinySquare = 0x1p-126;

// Beside an eps of this size, squares that vanished are nothing: rows of zeros are rows like others.
constexpr double kLeastEps = 0x1p-100;

inline bool float_squares_hold(double squares, double n) { return squares <= FLT_MAX && squares >= n * kTinySquare; }
inline bool shift_holds(Sums s, double n) { return s.a * s.a <= s.b * (n * 0.25); }

template <class A, class S>
inline Sums deviations(const S* x, size_t stride, size_t pieces, size_t n, A shift, size_t ahead = 0) {
  const Vec<A> center(shift);
  return sum_along<A>(x, stride, pieces, n, [&](ptrdiff_t i, auto lanes) {
    prefetch(x + i, ahead);
    const Vec<A> d = keep(Loader<A>::at(x + i, lanes) - center, lanes);
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
template <class S>
inline Moments moments_in_double(const S* x, size_t stride, size_t pieces, size_t n, double guess) {
  const double count = static_cast<double>(pieces) * static_cast<double>(n);
  const double mean = guess + deviations<double>(x, stride, pieces, n, guess).a / count;
  return about(mean, deviations<double>(x, stride, pieces, n, mean), count);
}

// x[0] plus the mean distance of the first elements from it: exactly x[0] for constant data.
template <class S>
inline Value<S> guess_mean(const S* x, size_t stride, size_t pieces, size_t n) {
  using T = Value<S>;
  const T first = value_of(x[0]);
  const size_t used = n >= kGuess ? 1 : least(pieces, kGuess / n);
  const size_t length = least(n, kGuess);
  const double distance = deviations<T>(x, stride, used, length, first).a;
  return static_cast<T>(static_cast<double>(first) + distance / static_cast<double>(used * length));
}

// One stretch of at most two vectors: no chains, no trust to test, two passes in double.
template <class S>
inline Moments moments_of_few(const S* x, size_t n, About origin) {
  using T = Value<S>;
  const size_t head = least(n, kLanes), tail = n - head;
  const Vec<double> a = widen(Vec<T>::load_some(x, 0, head));
  const Vec<double> b = tail > 0 ? widen(Vec<T>::load_some(x + kLanes, 0, tail)) : Vec<double>();
  const double count = static_cast<double>(n), first = static_cast<double>(value_of(x[0]));
  const auto distances = [&](double from) {
    const Vec<double> center(from);
    return Terms<double>{(a - center).keep_some(0, head), tail > 0 ? (b - center).keep_some(0, tail) : Vec<double>()};
  };
  if (origin == About::kZero) return {count, 0, 0, sum(a * a + b * b), 0};
  Terms<double> d = distances(first);
  const double mean = first + sum(d.a + d.b) / count;
  d = distances(mean);
  return about(mean, {sum(d.a + d.b), sum(d.a * d.a + d.b * d.b)}, count);
}

template <class S>
inline Moments moments_of(const S* x, size_t stride, size_t pieces, size_t n, About origin, bool tiny_matters,
                          size_t ahead = 0) {
  using T = Value<S>;
  const double count = static_cast<double>(pieces) * static_cast<double>(n);
  const bool narrow = sizeof(T) == sizeof(float);
  const auto vanish = [&](Sums s) { return narrow && !tiny_matters && s.b < count * kTinySquare; };
  if (pieces == 1 && n <= 2 * kLanes) return moments_of_few(x, n, origin);
  if (origin == About::kZero) {
    Sums s = deviations<T>(x, stride, pieces, n, T(0), ahead);
    if (narrow && !float_squares_hold(s.b, count) && !vanish(s)) s = deviations<double>(x, stride, pieces, n, 0.0);
    return {count, 0, 0, s.b, 0};
  }
  T shift = guess_mean(x, stride, pieces, n);
  Sums s = deviations<T>(x, stride, pieces, n, shift, ahead);
  if (vanish(s)) return about(static_cast<double>(shift), s, count);
  if (!shift_holds(s, count)) {
    shift = static_cast<T>(static_cast<double>(shift) + s.a / count);
    s = deviations<T>(x, stride, pieces, n, shift);
  }
  if (narrow && !(float_squares_hold(s.b, count) && shift_holds(s, count))) {
    return moments_in_double(x, stride, pieces, n, static_cast<double>(value_of(x[0])));
  }
  return about(static_cast<double>(shift), s, count);
}
template <class S>
SIMDNORM_KERNEL Moments moments(const S* x, size_t stride, size_t pieces, size_t n, About origin, size_t ahead) {
  return moments_of(x, stride, pieces, n, origin, true, ahead);
}

// One vector of columns, its deviations from `shift`.
template <class A, class S, class L>
inline Terms<double> column_deviations(const S* x, size_t stride, size_t rows, L lanes, Vec<A> shift) {
  Chains<A> chains;
  Terms<double> total;
  for (size_t row = 0; row < rows; row++) {
    const Vec<A> d = Loader<A>::at(x + row * stride, lanes) - shift;
    chains.even({d, d * d});
    if ((row + 1) % Chains<A>::kChain == 0) chains.empty(total);
  }
  chains.empty(total);
  return total;
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
template <class S, class L>
__attribute__((noinline)) ColumnSums mend_columns(const S* x, size_t stride, size_t rows, L lanes, Vec<Value<S>> shift,
                                                  Terms<double> s, bool centered) {
  using T = Value<S>;
  const double n = static_cast<double>(rows);
  ColumnSums out;
  out.set(shift, s, 0xffff);
  uint32_t bad = ~columns_that_hold<T>(s, n, centered);
  if (centered) {
    shift = out.means<T>(n);
    s = column_deviations<T>(x, stride, rows, lanes, shift);
    out.set(shift, s, bad);
    if (sizeof(T) == sizeof(float)) bad &= ~columns_that_hold<T>(s, n, centered);
  }
  if (sizeof(T) == sizeof(float) && (bad & 0xffff)) {
    Vec<double> mean;
    if (centered) {
      mean = Loader<double>::at(x, lanes);
      ColumnSums wide;
      wide.set(mean, column_deviations<double>(x, stride, rows, lanes, mean), 0xffff);
      mean = wide.means<double>(n);
    }
    out.set(mean, column_deviations<double>(x, stride, rows, lanes, mean), bad);
  }
  return out;
}

// At most kColumns columns of moments_columns.
template <class S>
inline void moments_of_columns(const S* x, Rows rows, About origin, Spread<double*> out) {
  using T = Value<S>;
  const double n = static_cast<double>(rows.count);
  const bool centered = origin == About::kMean;
  Vec<T> shifts[kColumns / kLanes];
  for_each_vector(rows.n, [&](size_t j, auto lanes) {
    if (!centered) return;
    const size_t used = least(rows.count, 8);
    const Vec<T> first = load(x + j, lanes);
    Vec<T> distance;
    for (size_t row = 1; row < used; row++) distance = distance + (load(x + row * rows.stride + j, lanes) - first);
    shifts[j / kLanes] = first + distance / Vec<T>(static_cast<T>(used));
  });
  ColumnLanes<T> sums;
  const size_t ahead = ahead_of(rows);
  sum_down(rows.count, rows.n, sums, [&](size_t row, size_t j, auto lanes) {
    prefetch(x + row * rows.stride + j, ahead);
    const Vec<T> d = load(x + row * rows.stride + j, lanes) - shifts[j / kLanes];
    return Terms<T>{d, d * d};
  });
  for_each_vector(rows.n, [&](size_t j, auto lanes) {
    Terms<double> s = sums.total[j / kLanes];
    Vec<double> origin_of = widen(shifts[j / kLanes]);
    if (bits(lanes) & ~columns_that_hold<T>(s, n, centered)) {
      const ColumnSums mended = mend_columns(x + j, rows.stride, rows.count, lanes, shifts[j / kLanes], s, centered);
      s = {Vec<double>::load(mended.a), Vec<double>::load(mended.b)};
      origin_of = Vec<double>::load(mended.shift);
    }
    Spread<Vec<double>> all;
    all.m2 = s.b;
    if (centered) {
      const Vec<double> offset = s.a / Vec<double>(n);
      all.mean = two_sum(origin_of, offset, all.mean_low);
      all.m2 = at_least(s.b - s.a * offset, Vec<double>());
    }
    store(out.mean + j, all.mean, lanes);
    store(out.mean_low + j, all.mean_low, lanes);
    store(out.m2 + j, all.m2, lanes);
    store(out.m2_low + j, all.m2_low, lanes);
  });
}

template <class S>
SIMDNORM_KERNEL void moments_columns(const S* x, Rows rows, About origin, Spread<double*> out) {
  for (size_t j = 0; j < rows.n; j += kColumns) {
    moments_of_columns(x + j, {rows.count, least(kColumns, rows.n - j), rows.stride}, origin,
                       {out.mean + j, out.mean_low + j, out.m2 + j, out.m2_low + j});
  }
}

inline SIMDNORM_KERNEL void merge_columns(Spread<double*> into, double na, Spread<double*> from, double nb, size_t n) {
  for_each_vector(n, [&](size_t j, auto lanes) {
    const auto at = [&](Spread<double*> p) {
      return Spread<Vec<double>>{load(p.mean + j, lanes), load(p.mean_low + j, lanes), load(p.m2 + j, lanes),
                                 load(p.m2_low + j, lanes)};
    };
    Spread<Vec<double>> all = at(into);
    merge(all, na, at(from), nb);
    store(into.mean + j, all.mean, lanes);
    store(into.mean_low + j, all.mean_low, lanes);
    store(into.m2 + j, all.m2, lanes);
    store(into.m2_low + j, all.m2_low, lanes);
  });
}

}  // namespace
}  // namespace SIMDNORM_ISA
}  // namespace simdnorm
