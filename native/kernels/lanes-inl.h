// What kernels are made of: whole vectors and the rest of one, and two sums at once. See kernels-inl.h.
#include <stddef.h>
#include <stdint.h>

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

// Every lane, or the first n of them with zeros behind.
struct All {};
struct First {
  size_t n;
};

template <class S>
inline Vec<Value<S>> load(const S* p, All) {
  return Vec<Value<S>>::load(p);
}
template <class S>
inline Vec<Value<S>> load(const S* p, First first) {
  return Vec<Value<S>>::load_first(p, first.n);
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
template <class S>
inline void store(S* p, Vec<Value<S>> v, All) {
  v.store(p);
}
template <class S>
inline void store(S* p, Vec<Value<S>> v, First first) {
  v.store_first(p, first.n);
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
  if (i < n) body(i, First{n - i});
}

inline size_t least(size_t a, size_t b) { return a < b ? a : b; }

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
class Accumulator;

template <>
class Accumulator<float> {
 public:
  static constexpr size_t kChain = 24;
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

}  // namespace
}  // namespace SIMDNORM_ISA
}  // namespace simdnorm
