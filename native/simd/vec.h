// Vec<T>: sixteen lanes of float or double on every ISA, made of as many registers as that takes.
//
// Lane i holds element i; +, -, * and / round each lane as IEEE 754 says and are never fused. Sums across lanes follow
// one tree: lane i takes lane i + 8, then i + 4, i + 2, i + 1. So a kernel written over Vec gives the same bits
// wherever it is compiled.
//
// A vec_<isa>.h comes first and defines, inside the ISA's anonymous namespace, Reg<float> and Reg<double>:
//   Type, kLanes                    a vector type on which + - * / work lane by lane (gcc, clang)
//   load(p) store(p, v) fill(s)     unaligned
//   stream(p, v)                    past the caches where the ISA can, p aligned to a line; end_of_streams() orders it
//   stream_few(p, from, n)          the same of n elements of memory, to any place
//   load_some(p, from, to)          lanes from..to-1, the others 0; touches nothing else; some, and not all of kLanes
//   store_some(p, from, to, v)      those lanes only
//   keep_some(v, from, to)          those lanes of v, the others 0
//   at_least(v, limit)              limit where v < limit, else v: NaN stays, and so does -0 above 0
//   keep_open(v, gate)              0 where gate <= 0, else v, also where gate is NaN
//   at_most(a, b)                   bit i is set where a[i] <= b[i] (never for NaN)
// and, for Reg<float>,
//   load(p) store(p, v)             from and to Float16 and BFloat16, all NaNs being one
//   of_bytes(b, i)                  register i of sixteen bytes, as numbers
//   to_bytes(v)                     kRegs registers of 0 to 255, rounded to nearest, to even
//   sums(v)                         lane i is the sum of v[i], of kLanes registers, by the tree above
// and Bytes, sixteen of them, with load(p) store(p) | and pick(from): byte i is byte from[i], or 0 from 0x80 on
// and, for Reg<double>,
//   sum(v)                          the tree above, inside one register
//   widen_low(f) widen_high(f)      the two halves of a Reg<float>
//   narrow(low, high)               the Reg<float> of those halves, rounded to nearest
//   sqrt(v)                         correctly rounded, as IEEE 754 says
#ifndef SIMDNORM_SIMD_VEC_H_
#define SIMDNORM_SIMD_VEC_H_

#include <stddef.h>
#include <stdint.h>

#include "native/core/storage.h"

// How parts of vectors are compiled: in place where the ISA has masks, else out of line. In place they made the
// portable kernels four times as large, and their compilation six minutes.
#ifdef SIMDNORM_HAS_MASKS
#define SIMDNORM_SOME
#else
#define SIMDNORM_SOME __attribute__((noinline))
#endif

namespace simdnorm {
namespace SIMDNORM_ISA {
namespace {

constexpr size_t kLanes = 16;

template <class T>
struct Vec {
  using R = Reg<T>;
  static constexpr size_t kRegs = kLanes / R::kLanes;
  typename R::Type r[kRegs];

  Vec() : Vec(T(0)) {}
  explicit Vec(T s) {
    for (size_t i = 0; i < kRegs; i++) r[i] = R::fill(s);
  }
  template <class S>
  static Vec load(const S* p) {
    Vec v;
    for (size_t i = 0; i < kRegs; i++) v.r[i] = R::load(p + i * R::kLanes);
    return v;
  }
  template <class S>
  void store(S* p) const {
    for (size_t i = 0; i < kRegs; i++) R::store(p + i * R::kLanes, r[i]);
  }
  // To a line's first element. 16-bit storage goes through the caches.
  void stream(T* p) const {
    for (size_t i = 0; i < kRegs; i++) R::stream(p + i * R::kLanes, r[i]);
  }
  template <class S>
  void stream(S* p) const {
    store(p);
  }
  // Lanes 0..n-1 of them, to any place in a line.
  void stream_first(T* p, size_t n) const {
    T all[kLanes];
    store(all);
    R::stream_few(p, all, n);
  }
  template <class S>
  void stream_first(S* p, size_t n) const {
    store_some(p, 0, n);
  }
  // f(i, from, to) for each register i with one of the lanes from..to-1, counted from its own first.
  template <class F>
  static void each_register(size_t from, size_t to, F f) {
    for (size_t i = 0; i < kRegs; i++) {
      const size_t first = i * R::kLanes;
      if (to <= first || from >= first + R::kLanes) continue;
      f(i, from > first ? from - first : 0, to - first < R::kLanes ? to - first : R::kLanes);
    }
  }
  // Lanes from..to-1, the others 0: at least one.
  SIMDNORM_SOME static Vec load_some(const T* p, size_t from, size_t to) {
    Vec v;
    each_register(from, to, [&](size_t i, size_t a, size_t b) {
      const T* at = p + i * R::kLanes;
      v.r[i] = a == 0 && b == R::kLanes ? R::load(at) : R::load_some(at, a, b);
    });
    return v;
  }
  // 16-bit storage goes through a buffer, as only AVX-512 has masks for it, and out of line, to keep the kernels small.
  template <class S>
  __attribute__((noinline)) static Vec load_some(const S* p, size_t from, size_t to) {
    S all[kLanes] = {};
    for (size_t i = from; i < to; i++) all[i] = p[i];
    return load(all);
  }
  SIMDNORM_SOME Vec keep_some(size_t from, size_t to) const {
    Vec v;
    each_register(from, to, [&](size_t i, size_t a, size_t b) {
      v.r[i] = a == 0 && b == R::kLanes ? r[i] : R::keep_some(r[i], a, b);
    });
    return v;
  }
  SIMDNORM_SOME void store_some(T* p, size_t from, size_t to) const {
    each_register(from, to, [&](size_t i, size_t a, size_t b) {
      T* at = p + i * R::kLanes;
      if (a == 0 && b == R::kLanes) {
        R::store(at, r[i]);
      } else {
        R::store_some(at, a, b, r[i]);
      }
    });
  }
  template <class S>
  __attribute__((noinline)) void store_some(S* p, size_t from, size_t to) const {
    S all[kLanes];
    store(all);
    for (size_t i = from; i < to; i++) p[i] = all[i];
  }

  friend Vec operator+(Vec a, Vec b) {
    for (size_t i = 0; i < kRegs; i++) a.r[i] = a.r[i] + b.r[i];
    return a;
  }
  friend Vec operator-(Vec a, Vec b) {
    for (size_t i = 0; i < kRegs; i++) a.r[i] = a.r[i] - b.r[i];
    return a;
  }
  friend Vec operator*(Vec a, Vec b) {
    for (size_t i = 0; i < kRegs; i++) a.r[i] = a.r[i] * b.r[i];
    return a;
  }
  friend Vec operator/(Vec a, Vec b) {
    for (size_t i = 0; i < kRegs; i++) a.r[i] = a.r[i] / b.r[i];
    return a;
  }
};

inline Vec<float> of_bytes(Bytes b) {
  Vec<float> v;
  for (size_t i = 0; i < Vec<float>::kRegs; i++) v.r[i] = Reg<float>::of_bytes(b, i);
  return v;
}
// Rounded to nearest, to even; within 0 to 255, and 0 for NaN.
template <class T>
inline Vec<T> at_least(Vec<T> v, Vec<T> limit);
inline Bytes to_bytes(Vec<float> v) {
  v = at_least(Vec<float>(), v);                                    // 0 where not 0 < v
  v = Vec<float>() - at_least(Vec<float>(-255), Vec<float>() - v);  // 255 where v is more
  return Reg<float>::to_bytes(v.r);
}

inline Vec<double> widen(Vec<float> v) {
  Vec<double> w;
  for (size_t i = 0; i < Vec<float>::kRegs; i++) {
    w.r[2 * i] = Reg<double>::widen_low(v.r[i]);
    w.r[2 * i + 1] = Reg<double>::widen_high(v.r[i]);
  }
  return w;
}
inline Vec<double> widen(Vec<double> v) { return v; }

inline Vec<float> narrow(Vec<double> w) {
  Vec<float> v;
  for (size_t i = 0; i < Vec<float>::kRegs; i++) v.r[i] = Reg<double>::narrow(w.r[2 * i], w.r[2 * i + 1]);
  return v;
}

inline Vec<double> square_root(Vec<double> v) {
  for (size_t i = 0; i < Vec<double>::kRegs; i++) v.r[i] = Reg<double>::sqrt(v.r[i]);
  return v;
}

inline double sum(Vec<double> v) {
  for (size_t n = Vec<double>::kRegs / 2; n > 0; n /= 2) {
    for (size_t i = 0; i < n; i++) v.r[i] = v.r[i] + v.r[i + n];
  }
  return Reg<double>::sum(v.r[0]);
}

// Lane i is the sum of v[i], of sixteen vectors.
inline Vec<float> sums(const Vec<float>* v) {
  using R = Reg<float>;
  Vec<float> out;
  for (size_t i = 0; i < Vec<float>::kRegs; i++) {
    typename R::Type folded[R::kLanes];
    for (size_t j = 0; j < R::kLanes; j++) {
      Vec<float> one = v[i * R::kLanes + j];
      for (size_t n = Vec<float>::kRegs / 2; n > 0; n /= 2) {
        for (size_t k = 0; k < n; k++) one.r[k] = one.r[k] + one.r[k + n];
      }
      folded[j] = one.r[0];
    }
    out.r[i] = R::sums(folded);
  }
  return out;
}

template <class T>
inline Vec<T> at_least(Vec<T> v, Vec<T> limit) {
  for (size_t i = 0; i < Vec<T>::kRegs; i++) v.r[i] = Reg<T>::at_least(v.r[i], limit.r[i]);
  return v;
}
template <class T>
inline Vec<T> keep_open(Vec<T> v, Vec<T> gate) {
  for (size_t i = 0; i < Vec<T>::kRegs; i++) v.r[i] = Reg<T>::keep_open(v.r[i], gate.r[i]);
  return v;
}

// Bit i is set where a[i] <= b[i].
template <class T>
inline uint32_t at_most(Vec<T> a, Vec<T> b) {
  uint32_t bits = 0;
  for (size_t i = 0; i < Vec<T>::kRegs; i++) bits |= Reg<T>::at_most(a.r[i], b.r[i]) << (i * Reg<T>::kLanes);
  return bits;
}

}  // namespace
}  // namespace SIMDNORM_ISA
}  // namespace simdnorm

#endif  // SIMDNORM_SIMD_VEC_H_
