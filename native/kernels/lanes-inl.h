// What kernels are made of: whole vectors and the rest of one, and two sums at once. See kernels-inl.h.
#include <stddef.h>
#include <stdint.h>

#include "native/kernels/kernels.h"

// A kernel of the table: everything it calls is inlined into it. Left to itself gcc 12 keeps parts out of line and
// hands vectors of several registers over in memory: the sums ran at 0.4 of their speed on AVX2 (node
// bench/moments.mjs).
//
// Not under a sanitizer, whose checks it multiplies: minutes and gigabytes for each file.
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SIMDNORM_KERNEL
#else
#define SIMDNORM_KERNEL __attribute__((flatten))
#endif

namespace simdnorm {
namespace SIMDNORM_ISA {
namespace {

// Every lane, or some of them with zeros around.
struct All {};
struct Some {
  size_t from, to;
};
inline Some first_lanes(size_t n) { return {0, n}; }

template <class S>
inline Vec<Value<S>> load(const S* p, All) {
  return Vec<Value<S>>::load(p);
}
template <class S>
inline Vec<Value<S>> load(const S* p, Some some) {
  return Vec<Value<S>>::load_some(p, some.from, some.to);
}
template <class T>
inline Vec<T> keep(Vec<T> v, All) {
  return v;
}
template <class T>
inline Vec<T> keep(Vec<T> v, Some some) {
  return v.keep_some(some.from, some.to);
}
inline uint32_t bits(All) { return 0xffff; }
inline uint32_t bits(Some some) { return (1u << some.to) - (1u << some.from); }
template <class S>
inline void store(S* p, Vec<Value<S>> v, All) {
  v.store(p);
}
template <class S>
inline void store(S* p, Vec<Value<S>> v, Some some) {
  v.store_some(p, some.from, some.to);
}

// Sums and quotients taken in double, rounded once to the type computed with, and again to 16 bits where it is stored
// so.
template <class S, class L>
inline void store_rounded(S* p, Vec<double> v, L lanes) {
  store(p, narrow(v), lanes);
}
template <class L>
inline void store_rounded(double* p, Vec<double> v, L lanes) {
  store(p, v, lanes);
}

// The elements from p on, in the type A that sums are taken in.
template <class A>
struct Loader {
  template <class S, class L>
  static Vec<A> at(const S* p, L lanes) {
    return load(p, lanes);
  }
};
template <>
struct Loader<double> {
  template <class S, class L>
  static Vec<double> at(const S* p, L lanes) {
    return widen(load(p, lanes));
  }
};

// body(i, lanes) for each vector of [0, n).
template <class Body>
inline void for_each_vector(size_t n, Body body) {
  size_t i = 0;
  for (; i + kLanes <= n; i += kLanes) body(i, All{});
  if (i < n) body(i, first_lanes(n - i));
}

constexpr size_t least(size_t a, size_t b) { return a < b ? a : b; }

static_assert(kLanes == kVector, "the ops lay out memory by it");

// ---- maps ----

// Shorter stretches are not worth a head before the first line.
constexpr size_t kAligned = 8 * kLanes;

// Elements before the first that begins a line, or half a one of 16-bit data: a store across two lines costs two.
template <class S>
inline size_t to_line(const S* p) {
  constexpr size_t kBytes = least(kLanes * sizeof(S), kLine);
  return (0 - reinterpret_cast<uintptr_t>(p)) % kBytes / sizeof(S);
}

constexpr size_t kLines = 4;  // streamed at once: in turns with single loads they take 1.1 times as long

// value(k) for each of `count` vectors, k elements on.
template <size_t count = kLines, class S, class F>
inline void stream_lines(S* y, F value) {
  decltype(value(size_t(0))) lines[count];
  for (size_t k = 0; k < count; k++) lines[k] = value(k * kLanes);
  for (size_t k = 0; k < count; k++) lines[k].stream(y + k * kLanes);
}

// y[i] = value(i, lanes) for i in [0, n). y may be what value reads.
//
// Parts of lines are streamed among lines that are: cached stores to them would wait for the line to come from memory,
// and hold up the stores of the next row's sums. LayerNorm's way back through 4096 x 768 took 1.4 times as long.
template <class S, class F>
inline void map(S* y, size_t n, Stores stores, F value) {
  size_t i = n >= kAligned ? to_line(y) : 0;
  if (stores == Stores::kStreamed && n >= kAligned) {
    if (i > 0) value(0, first_lanes(i)).stream_first(y, i);
    for (; i + kLines * kLanes <= n; i += kLines * kLanes) {
      stream_lines(y + i, [&](size_t k) { return value(i + k, All{}); });
    }
    for (; i + kLanes <= n; i += kLanes) value(i, All{}).stream(y + i);
    if (i < n) value(i, first_lanes(n - i)).stream_first(y + i, n - i);
  } else if (n >= kLanes) {
    if (i > 0) store(y, value(0, first_lanes(i)), first_lanes(i));
    // The last vector overlaps the one before it, which costs less than a part of one; taken before that is stored.
    const auto last = value(n - kLanes, All{});
    for (; i + kLanes <= n; i += kLanes) store(y + i, value(i, All{}), All{});
    if (i < n) store(y + n - kLanes, last, All{});
  } else {
    store(y, value(0, first_lanes(n)), first_lanes(n));
  }
}

// The same over rows of one matrix: value(i, j, lanes), where j is the column of the first lane.
template <class S, class F>
inline void map_columns(S* y, Periodic at, Stores stores, F value) {
  size_t i = 0, j = at.phase;
  const auto step = [&](size_t n) {
    i += n;
    j += n;
    if (j >= at.period) j -= at.period;
  };
  const bool streamed = stores == Stores::kStreamed && at.n >= kAligned;
  const auto some = [&](size_t n) {
    if (n == 0) return;
    const auto v = value(i, j, first_lanes(n));
    if (streamed) {
      v.stream_first(y + i, n);
    } else {
      store(y + i, v, first_lanes(n));
    }
    step(n);
  };
  if (at.n >= kAligned) some(to_line(y));
  const auto whole = [&] {
    const auto v = value(i, j, All{});
    step(kLanes);
    return v;
  };
  if (streamed) {
    while (i + kLines * kLanes <= at.n) stream_lines(y + i, [&](size_t) { return whole(); });
    while (i + kLanes <= at.n) stream_lines<1>(y + i, [&](size_t) { return whole(); });
  } else {
    while (i + kLanes <= at.n) {
      S* const to = y + i;
      store(to, whole(), All{});
    }
  }
  some(at.n - i);
}

// Asks for the line `ahead` elements on, for when its turn comes; 0: nothing is to come. What hardware fetches by
// itself ends with a page, and begins anew at each piece: pieces of 12 KiB came in at half the rate of one stretch.
template <class S>
inline void prefetch(const S* p, size_t ahead) {
  if (ahead > 0) __builtin_prefetch(reinterpret_cast<const char*>(p) + ahead * sizeof(S));
}

// ---- sums ----

template <class A>
struct Terms {
  Vec<A> a, b;
};
struct Sums {
  double a, b;
};

// The lanes that take the additions are emptied into others, of double, after kChain pairs: data that round the same
// way at every step (two values, say) err with the length of the chain. 24 additions of floats stay within 12.5 * 2^-24
// = 7.5e-7, and 1e-6 with the roundings of the terms, where 128 of them, a whole block, would allow 4e-6; 16 of doubles
// keep 15.5 digits of NIST's NumAcc3, where 64 leave 15.3.
template <class A>
class Chains;

template <>
class Chains<float> {
 public:
  static constexpr size_t kChain = kFloatChain;
  void even(Terms<float> t) {
    a0_ = a0_ + t.a;
    b0_ = b0_ + t.b;
  }
  void odd(Terms<float> t) {
    a1_ = a1_ + t.a;
    b1_ = b1_ + t.b;
  }
  void empty(Terms<double>& into) {
    into.a = into.a + widen(a0_ + a1_);
    into.b = into.b + widen(b0_ + b1_);
    *this = Chains();
  }

 private:
  Vec<float> a0_, a1_, b0_, b1_;
};

// One set of lanes is enough here: sixteen doubles are at least two registers, hence two independent chains.
template <>
class Chains<double> {
 public:
  static constexpr size_t kChain = 8;
  void even(Terms<double> t) {
    a_ = a_ + t.a;
    b_ = b_ + t.b;
  }
  void odd(Terms<double> t) { even(t); }
  void empty(Terms<double>& into) {
    into.a = into.a + a_;
    into.b = into.b + b_;
    *this = Chains();
  }

 private:
  Vec<double> a_, b_;
};

// ---- along the data ----

// Terms from i on of one window, which is as long as the chains are: whole vectors in pairs, then the rest.
template <class A, class F>
inline void add_pairs(Chains<A>& chains, ptrdiff_t i, ptrdiff_t end, F terms) {
  constexpr ptrdiff_t kStep = kLanes;
  for (; i + 2 * kStep <= end; i += 2 * kStep) {
    chains.even(terms(i, All{}));
    chains.odd(terms(i + kStep, All{}));
  }
  if (i + kStep <= end) {
    chains.even(terms(i, All{}));
    i += kStep;
    if (i < end) chains.odd(terms(i, first_lanes(static_cast<size_t>(end - i))));
  } else if (i < end) {
    chains.even(terms(i, first_lanes(static_cast<size_t>(end - i))));
  }
}

// Elements behind a chain of every lane.
template <class A>
constexpr size_t kWindow = 2 * Chains<A>::kChain* kLanes;

// terms(i, lanes) summed over n elements from p on, by loads that do not cross a line: memory that comes from beyond
// the caches is read by half as fast otherwise. Where p is not at a line's begin, the first vector has only lanes from
// `off` on, and all elements are that many lanes further, round and round. That changes no bit: a lane's elements stay
// the same, in the same order; what was added to the even chain may be in the odd one, but for all of a lane's; and the
// tree over the lanes is the same one, turned.
template <class A, class S, class F>
inline Sums sum_stretch(const S* p, size_t n, F terms) {
  Chains<A> chains;
  Terms<double> total;
  const size_t off = reinterpret_cast<uintptr_t>(p) / sizeof(S) % kLanes;
  for (size_t begin = 0; begin < n; begin += kWindow<A>) {
    const size_t end = least(n, begin + kWindow<A>);
    ptrdiff_t i = static_cast<ptrdiff_t>(begin);
    if (off > 0) {
      i -= static_cast<ptrdiff_t>(off);
      chains.odd(terms(i, Some{off, least(kLanes, off + end - begin)}));
      i += kLanes;
    }
    add_pairs(chains, i, static_cast<ptrdiff_t>(end), terms);
    chains.empty(total);
  }
  return {sum(total.a), sum(total.b)};
}

// terms(i, lanes) summed over `pieces` stretches of n elements; p is where the data begin.
template <class A, class S, class F>
inline Sums sum_along(const S* p, size_t stride, size_t pieces, size_t n, F terms) {
  Sums all = {0, 0};
  if (n >= kWindow<A>) {
    for (size_t piece = 0; piece < pieces; piece++) {
      const size_t at = piece * stride;
      const Sums s = sum_stretch<A>(
          p + at, n, [&](ptrdiff_t i, auto lanes) { return terms(i + static_cast<ptrdiff_t>(at), lanes); });
      all = {all.a + s.a, all.b + s.b};
    }
    return all;
  }
  // Of short ones as many as fill the even chain, which has a piece's odd vector.
  Chains<A> chains;
  Terms<double> total;
  const size_t vectors = (n + kLanes - 1) / kLanes, together = Chains<A>::kChain / ((vectors + 1) / 2);
  for (size_t piece = 0; piece < pieces; piece++) {
    const ptrdiff_t at = static_cast<ptrdiff_t>(piece * stride);
    add_pairs(chains, at, at + static_cast<ptrdiff_t>(n), terms);
    if ((piece + 1) % together == 0) chains.empty(total);
  }
  chains.empty(total);
  return {sum(total.a), sum(total.b)};
}

// Down the columns: the lanes of all of them lie in memory, in L1, so that rows are read whole and one after the other.
constexpr size_t kColumns = 512;
constexpr size_t kStrip = 8;  // rows for which a column's lanes are in registers

template <class A>
struct ColumnLanes {
  Chains<A> chains[kColumns / kLanes];
  Terms<double> total[kColumns / kLanes];
};

// How far ahead of itself sum_down fetches: past the strip at work. Its order, down a strip and then
// along it, hides from hardware what comes next: 100352 x 64 took 1.8 times as long.
inline size_t ahead_of(Rows rows) {
  const size_t strip = kStrip * rows.stride;
  return strip > kAhead ? strip : kAhead;
}

// terms(row, j, lanes) summed down each of at most kColumns columns.
template <class A, class F>
inline void sum_down(size_t rows, size_t cols, ColumnLanes<A>& sums, F terms) {
  const auto strip = [&](size_t row, size_t count) {
    for_each_vector(cols, [&](size_t j, auto lanes) {
      Chains<A> chains = sums.chains[j / kLanes];
      for (size_t i = 0; i + 2 <= count; i += 2) {
        chains.even(terms(row + i, j, lanes));
        chains.odd(terms(row + i + 1, j, lanes));
      }
      if (count % 2) chains.even(terms(row + count - 1, j, lanes));
      sums.chains[j / kLanes] = chains;
    });
  };
  for (size_t row = 0; row < rows;) {
    const size_t end = least(rows, row + 2 * Chains<A>::kChain);
    for (; row + kStrip <= end; row += kStrip) strip(row, kStrip);
    if (row < end) strip(row, end - row);
    row = end;
    for_each_vector(cols, [&](size_t j, auto) { sums.chains[j / kLanes].empty(sums.total[j / kLanes]); });
  }
}

}  // namespace
}  // namespace SIMDNORM_ISA
}  // namespace simdnorm
