// Sums for statistics of data sets: in double, as if no addition had rounded. See kernels-inl.h.
//
// The terms of sixteen rows are added plainly, and what they come to exactly, as high + low (Knuth): a sum errs by the
// roundings of four additions, whatever its length, and not at all for data whose terms have few enough bits, which
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
    const Terms<double> t = terms<count>(center, 0, at, lanes);
    exactly(sum, sum_low, t.a);
    exactly(squares, squares_low, t.b);
  }

 private:
  // Of `count` vectors from `first` on: a half and the other half.
  template <size_t count, class F, class L>
  Terms<double> terms(const Vec<double>& center, size_t first, F at, L lanes) {
    if constexpr (count == 1) {
      const Vec<N> v = at(first);
      min = lesser(v, min);
      max = greater(v, max);
      const Vec<double> d = keep(widen(v) - center, lanes);
      return {d, d * d};
    } else {
      const Terms<double> a = terms<count / 2>(center, first, at, lanes);
      const Terms<double> b = terms<count / 2>(center, first + count / 2, at, lanes);
      return {a.a + b.a, a.b + b.b};
    }
  }
  static void exactly(Vec<double>& high, Vec<double>& low, Vec<double> term) {
    Vec<double> rest;
    high = two_sum(high, term, rest);
    low = low + rest;
  }
};

// The mean of n numbers whose distances from `first` add up to `distance`; as a float where data are, so that what is
// left of them has few bits.
template <class N>
inline Vec<double> center_of(Vec<N> first, Vec<double> distance, double n) {
  const Vec<double> guess = widen(first) + distance / Vec<double>(n);
  return sizeof(N) == sizeof(float) ? widen(narrow(guess)) : guess;
}
// Numbers behind a guess, from all over the data, which may be sorted: of random ones it is within half a deviation of
// the mean in all but 5 of 100,000 cases.
constexpr size_t kTallyGuess = 64;
constexpr size_t kTallyStrip = 64;  // rows for which a column's lanes are in registers
constexpr size_t kTogether = 16;    // vectors whose terms are added before they are added exactly

template <class S>
SIMDNORM_KERNEL void tally_centers(const S* x, Rows rows, double* center) {
  for_each_vector(rows.n, [&](size_t j, auto lanes) {
    const size_t used = least(rows.count, kTallyGuess);
    const auto first = numbers(x + j, lanes);
    Vec<double> distance;
    for (size_t k = 1; k < used; k++) {
      const size_t row = k * rows.count / used;
      distance = distance + (widen(numbers(x + row * rows.stride + j, lanes)) - widen(first));
    }
    store(center + j, center_of(first, distance, static_cast<double>(used)), lanes);
  });
}

template <class S>
SIMDNORM_KERNEL double tally_center(const S* x, size_t stride, size_t pieces, size_t n) {
  using N = Value<S>;
  constexpr size_t kPlaces = kTallyGuess / kLanes;
  const Vec<N> first(static_cast<N>(value_of(x[0])));
  const Some some = first_lanes(least(n, kLanes));
  Vec<double> distance;
  for (size_t k = 0; k < kPlaces; k++) {
    const S* const p = x + k * pieces / kPlaces * stride + k * (n - some.to) / kPlaces;
    distance = distance + keep(widen(numbers(p, some)) - widen(first), some);
  }
  double center[kLanes];
  center_of(first, Vec<double>(sum(distance)), static_cast<double>(kPlaces * some.to)).store(center);
  return center[0];
}

template <class S>
SIMDNORM_KERNEL void tally_columns(const S* x, Rows rows, const double* center, Deviations<double*> out) {
  TallyLanes<Value<S>> all[kTallyColumns / kLanes];
  for_each_vector(rows.n,
                  [&](size_t j, auto lanes) { all[j / kLanes].min = all[j / kLanes].max = numbers(x + j, lanes); });
  const size_t strip = kTallyStrip * rows.stride, ahead = strip > kAhead ? strip : kAhead;
  for (size_t row = 0; row < rows.count; row += kTallyStrip) {
    const size_t end = least(rows.count, row + kTallyStrip);
    for_each_vector(rows.n, [&](size_t j, auto lanes) {
      TallyLanes<Value<S>> own = all[j / kLanes];
      const Vec<double> from = load(center + j, lanes);
      const auto at = [&](size_t i) {
        const S* const p = x + i * rows.stride + j;
        prefetch(p, ahead);
        return numbers(p, lanes);
      };
      size_t i = row;
      for (; i + kTogether <= end; i += kTogether) {
        own.template add<kTogether>(
            from, [&](size_t k) { return at(i + k); }, All{});
      }
      for (; i < end; i++)
        own.template add<1>(
            from, [&](size_t) { return at(i); }, All{});
      all[j / kLanes] = own;
    });
  }
  for_each_vector(rows.n, [&](size_t j, auto lanes) {
    const TallyLanes<Value<S>>& own = all[j / kLanes];
    store(out.sum + j, own.sum, lanes);
    store(out.sum_low + j, own.sum_low, lanes);
    store(out.squares + j, own.squares, lanes);
    store(out.squares_low + j, own.squares_low, lanes);
    store(out.min + j, widen(own.min), lanes);
    store(out.max + j, widen(own.max), lanes);
  });
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
SIMDNORM_KERNEL Deviations<double> tally_run(const S* x, size_t stride, size_t pieces, size_t n, double from,
                                             size_t ahead) {
  using N = Value<S>;
  const Vec<double> center(from);
  TallyLanes<N> own;
  own.min = own.max = Vec<N>(static_cast<N>(value_of(x[0])));
  for (size_t piece = 0; piece < pieces; piece++) {
    const S* const p = x + piece * stride;
    size_t i = 0;
    const auto at = [&](size_t k) {
      prefetch(p + i + k * kLanes, ahead);
      return numbers(p + i + k * kLanes);
    };
    for (; i + kTogether * kLanes <= n; i += kTogether * kLanes) own.template add<kTogether>(center, at, All{});
    for (; i + kLanes <= n; i += kLanes) own.template add<1>(center, at, All{});
    if (i == n) continue;
    const Some rest = first_lanes(n - i);
    own.template add<1>(
        center, [&](size_t) { return numbers(p + i, rest); }, rest);
  }
  Deviations<double> out;
  double each[kLanes];
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
