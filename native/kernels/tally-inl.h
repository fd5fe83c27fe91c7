// Sums for statistics of data sets: in double, as if no addition had rounded. See kernels-inl.h.
//
// The terms of four rows are added plainly, and what they come to exactly, as high + low (Knuth): a sum errs by the
// roundings of two additions, whatever its length, and not at all for data whose terms have few enough bits, which
// floats and integers have unless they are of very different sizes.
#include <stddef.h>
#include <stdint.h>

#include "native/kernels/kernels.h"

namespace simdnorm {
namespace SIMDNORM_ISA {
namespace {

template <class S>
inline Vec<Value<S>> numbers(const S* p) {
  return Vec<Value<S>>::load(p);
}
template <>
inline Vec<float> numbers(const uint8_t* p) {
  return of_bytes(Bytes::load(p));
}
template <class T, class I>
inline Vec<T> of_integers(const I* p) {
  using R = Reg<T>;
  typedef I Few __attribute__((vector_size(R::kLanes * sizeof(I))));
  typedef int32_t Wide __attribute__((vector_size(R::kLanes * sizeof(int32_t))));
  typedef T Numbers __attribute__((vector_size(R::kLanes * sizeof(T))));
  Vec<T> v;
  for (size_t i = 0; i < Vec<T>::kRegs; i++) {
    Few few;
    __builtin_memcpy(&few, p + i * R::kLanes, sizeof few);
    v.r[i] = (typename R::Type) __builtin_convertvector(__builtin_convertvector(few, Wide), Numbers);
  }
  return v;
}
template <>
inline Vec<float> numbers(const int8_t* p) {
  return of_integers<float>(p);
}
template <>
inline Vec<float> numbers(const int16_t* p) {
  return of_integers<float>(p);
}
template <>
inline Vec<double> numbers(const int32_t* p) {
  return of_integers<double>(p);
}

template <class S>
inline Vec<Value<S>> numbers(const S* p, All) {
  return numbers(p);
}
// The lanes that are not there have the number of p[0]: no new one.
template <class S>
__attribute__((noinline)) Vec<Value<S>> numbers(const S* p, Some some) {
  S all[kLanes];
  for (size_t i = 0; i < kLanes; i++) all[i] = i < some.to ? p[i] : p[0];
  return numbers(all);
}

template <class N>
struct TallyLanes {
  Vec<double> sum, sum_low, squares, squares_low;
  Vec<N> min, max;

  // The vectors at(0), at(1), ..., by lanes that are there.
  template <size_t count, class F, class L>
  void add(const Vec<double>& center, F at, L lanes) {
    static_assert(count == 1 || count == 4, "pairs of pairs");
    Vec<double> d[count], s[count];
    for (size_t k = 0; k < count; k++) {
      const Vec<N> v = at(k);
      min = lesser(v, min);
      max = greater(v, max);
      d[k] = keep(widen(v) - center, lanes);
      s[k] = d[k] * d[k];
    }
    const auto tree = [](const Vec<double>* v) { return count == 1 ? v[0] : (v[0] + v[1]) + (v[2] + v[3]); };
    exactly(sum, sum_low, tree(d));
    exactly(squares, squares_low, tree(s));
  }

 private:
  static void exactly(Vec<double>& high, Vec<double>& low, Vec<double> term) {
    Vec<double> rest;
    high = two_sum(high, term, rest);
    low = low + rest;
  }
};

// The mean of so many numbers, for numbers to be counted from. As a float where data are, so that what is left of them
// has few bits.
template <class N>
inline Vec<double> center_of(Vec<N> first, Vec<double> distance, double n) {
  const Vec<double> guess = widen(first) + distance / Vec<double>(n);
  return sizeof(N) == sizeof(float) ? widen(narrow(guess)) : guess;
}
// Numbers behind a guess, from all over the data, which may be sorted: it is then within half a deviation of the mean
// in 299 of 300 columns.
constexpr size_t kTallyGuess = 32;
constexpr size_t kTallyStrip = 16;  // rows for which a column's lanes are in registers

// At most kTallyColumns columns of tally_columns.
template <class S>
inline void tally_tile(const S* x, Rows rows, const double* given, Deviations<double*> out) {
  using N = Value<S>;
  Vec<double> center[kTallyColumns / kLanes];
  TallyLanes<N> all[kTallyColumns / kLanes];
  for_each_vector(rows.n, [&](size_t j, auto lanes) {
    const Vec<N> first = numbers(x + j, lanes);
    if (given) {
      center[j / kLanes] = load(given + j, lanes);
    } else {
      const size_t used = least(rows.count, kTallyGuess);
      Vec<double> distance;
      for (size_t k = 1; k < used; k++) {
        const size_t row = k * rows.count / used;
        distance = distance + (widen(numbers(x + row * rows.stride + j, lanes)) - widen(first));
      }
      center[j / kLanes] = center_of(first, distance, static_cast<double>(used));
    }
    all[j / kLanes].min = all[j / kLanes].max = first;
  });
  const size_t strip = kTallyStrip * rows.stride, ahead = strip > kAhead ? strip : kAhead;
  for (size_t row = 0; row < rows.count; row += kTallyStrip) {
    const size_t end = least(rows.count, row + kTallyStrip);
    for_each_vector(rows.n, [&](size_t j, auto lanes) {
      TallyLanes<N> own = all[j / kLanes];
      const Vec<double> from = center[j / kLanes];
      const auto at = [&](size_t i) {
        const S* const p = x + i * rows.stride + j;
        prefetch(p, ahead);
        return numbers(p, lanes);
      };
      size_t i = row;
      for (; i + 4 <= end; i += 4)
        own.template add<4>(
            from, [&](size_t k) { return at(i + k); }, All{});
      for (; i < end; i++)
        own.template add<1>(
            from, [&](size_t) { return at(i); }, All{});
      all[j / kLanes] = own;
    });
  }
  for_each_vector(rows.n, [&](size_t j, auto lanes) {
    const TallyLanes<N>& own = all[j / kLanes];
    store(out.center + j, center[j / kLanes], lanes);
    store(out.sum + j, own.sum, lanes);
    store(out.sum_low + j, own.sum_low, lanes);
    store(out.squares + j, own.squares, lanes);
    store(out.squares_low + j, own.squares_low, lanes);
    store(out.min + j, widen(own.min), lanes);
    store(out.max + j, widen(own.max), lanes);
  });
}

template <class S>
SIMDNORM_KERNEL void tally_columns(const S* x, Rows rows, const double* center, Deviations<double*> out) {
  for (size_t j = 0; j < rows.n; j += kTallyColumns) {
    tally_tile(
        x + j, {rows.count, least(kTallyColumns, rows.n - j), rows.stride}, center ? center + j : nullptr,
        {out.center + j, out.sum + j, out.sum_low + j, out.squares + j, out.squares_low + j, out.min + j, out.max + j});
  }
}

// The sum of all lanes of high + low by the tree of vec.h, with nothing lost.
inline void fold(Vec<double> high, Vec<double> low, double* sum, double* sum_low) {
  double h[kLanes], l[kLanes];
  high.store(h);
  low.store(l);
  for (size_t n = kLanes / 2; n > 0; n /= 2) {
    for (size_t i = 0; i < n; i++) {
      double rest;
      h[i] = two_sum(h[i], h[i + n], rest);
      l[i] = (l[i] + l[i + n]) + rest;
    }
  }
  *sum = h[0];
  *sum_low = l[0];
}

template <class S>
SIMDNORM_KERNEL Deviations<double> tally_run(const S* x, size_t stride, size_t pieces, size_t n, const double* given,
                                             size_t ahead) {
  using N = Value<S>;
  const Vec<N> first(static_cast<N>(value_of(x[0])));
  Vec<double> center;
  if (given) {
    center = Vec<double>(*given);
  } else {
    constexpr size_t kPlaces = 4;
    const Some some = first_lanes(least(n, kLanes));
    Vec<double> distance;
    for (size_t k = 0; k < kPlaces; k++) {
      const S* const p = x + k * pieces / kPlaces * stride + k * (n - some.to) / kPlaces;
      distance = distance + keep(widen(numbers(p, some)) - widen(first), some);
    }
    center = center_of(first, Vec<double>(sum(distance)), static_cast<double>(kPlaces * some.to));
  }
  TallyLanes<N> own;
  own.min = own.max = first;
  for (size_t piece = 0; piece < pieces; piece++) {
    const S* const p = x + piece * stride;
    size_t i = 0;
    const auto at = [&](size_t k) {
      prefetch(p + i + k * kLanes, ahead);
      return numbers(p + i + k * kLanes);
    };
    for (; i + 4 * kLanes <= n; i += 4 * kLanes) own.template add<4>(center, at, All{});
    for (; i + kLanes <= n; i += kLanes) own.template add<1>(center, at, All{});
    if (i == n) continue;
    const Some rest = first_lanes(n - i);
    own.template add<1>(
        center, [&](size_t) { return numbers(p + i, rest); }, rest);
  }
  Deviations<double> out;
  double each[kLanes];
  center.store(each);
  out.center = each[0];
  fold(own.sum, own.sum_low, &out.sum, &out.sum_low);
  fold(own.squares, own.squares_low, &out.squares, &out.squares_low);
  widen(own.min).store(each);
  out.min = each[0];
  for (size_t i = 1; i < kLanes; i++) out.min = each[i] < out.min ? each[i] : out.min;
  widen(own.max).store(each);
  out.max = each[0];
  for (size_t i = 1; i < kLanes; i++) out.max = each[i] > out.max ? each[i] : out.max;
  return out;
}

}  // namespace
}  // namespace SIMDNORM_ISA
}  // namespace simdnorm
