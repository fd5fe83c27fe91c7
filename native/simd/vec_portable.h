// Any CPU: 16-byte vectors of the compiler (gcc, clang), which are SSE2 on x86-64, its baseline.
// The contract is in vec.h.
#ifndef SIMDNORM_SIMD_VEC_PORTABLE_H_
#define SIMDNORM_SIMD_VEC_PORTABLE_H_

#include <stddef.h>
#include <stdint.h>

#include "native/core/storage.h"

namespace simdnorm {
namespace SIMDNORM_ISA {
namespace {

// Sixteen bytes.
struct Bytes {
  uint8_t r[16];
  static Bytes load(const uint8_t* p) {
    Bytes b;
    __builtin_memcpy(b.r, p, sizeof b.r);
    return b;
  }
  void store(uint8_t* p) const { __builtin_memcpy(p, r, sizeof r); }
  Bytes pick(Bytes from) const {
    Bytes b;
    for (size_t i = 0; i < 16; i++) b.r[i] = from.r[i] < 16 ? r[from.r[i]] : 0;
    return b;
  }
  friend Bytes operator|(Bytes a, Bytes b) {
    for (size_t i = 0; i < 16; i++) a.r[i] |= b.r[i];
    return a;
  }
};

template <class T, size_t N>
struct Generic {
  typedef T Type __attribute__((vector_size(16)));
  static constexpr size_t kLanes = N;
  static Type load(const T* p) {
    Type v;
    __builtin_memcpy(&v, p, sizeof v);
    return v;
  }
  static void store(T* p, Type v) { __builtin_memcpy(p, &v, sizeof v); }
  static void stream(T* p, Type v) { store(p, v); }
  static void stream_few(T* p, const T* from, size_t n) { __builtin_memcpy(p, from, n * sizeof(T)); }
  static Type fill(T s) {
    Type v;
    for (size_t i = 0; i < N; i++) v[i] = s;
    return v;
  }
  static Type load_some(const T* p, size_t from, size_t to) {
    Type v = fill(0);
    for (size_t i = from; i < to; i++) v[i] = p[i];
    return v;
  }
  static void store_some(T* p, size_t from, size_t to, Type v) {
    for (size_t i = from; i < to; i++) p[i] = v[i];
  }
  static Type keep_some(Type v, size_t from, size_t to) {
    for (size_t i = 0; i < N; i++) v[i] = i >= from && i < to ? v[i] : 0;
    return v;
  }
  static Type at_least(Type v, Type limit) { return v < limit ? limit : v; }
  static Type keep_open(Type v, Type gate) { return gate <= fill(0) ? fill(0) : v; }
  static uint32_t at_most(Type a, Type b) {
    uint32_t bits = 0;
    for (size_t i = 0; i < N; i++) bits |= (a[i] <= b[i] ? 1u : 0u) << i;
    return bits;
  }
};

template <class T>
struct Reg;

template <>
struct Reg<float> : Generic<float, 4> {
  using Generic::load;
  using Generic::store;
  static Type of_bytes(Bytes b, size_t i) {
    Type v;
    for (size_t k = 0; k < kLanes; k++) v[k] = b.r[i * kLanes + k];
    return v;
  }
  static Bytes to_bytes(const Type* v) {
    Bytes b;
    // Beside 2^23 a float has no room for a fraction.
    for (size_t i = 0; i < 16; i++) b.r[i] = static_cast<uint8_t>((v[i / kLanes][i % kLanes] + 0x1p23f) - 0x1p23f);
    return b;
  }
  static Type sums(const Type* v) {
    const auto pairs = [](Type a, Type b) { return Type{a[0], a[1], b[0], b[1]} + Type{a[2], a[3], b[2], b[3]}; };
    const Type a = pairs(v[0], v[1]), b = pairs(v[2], v[3]);
    return Type{a[0], a[2], b[0], b[2]} + Type{a[1], a[3], b[1], b[3]};
  }
  // Out of line: inlined everywhere these made the portable kernels four times as large.
  template <class S>
  __attribute__((noinline)) static Type load(const S* p) {
    Type v;
    for (size_t i = 0; i < kLanes; i++) v[i] = value_of(p[i]);
    return v;
  }
  template <class S>
  __attribute__((noinline)) static void store(S* p, Type v) {
    for (size_t i = 0; i < kLanes; i++) p[i] = stored<S>(v[i]);
  }
};

template <>
struct Reg<double> : Generic<double, 2> {
  static double sum(Type v) { return v[0] + v[1]; }
  static Type widen_low(Reg<float>::Type f) { return Type{f[0], f[1]}; }
  static Type widen_high(Reg<float>::Type f) { return Type{f[2], f[3]}; }
  // Out of line: gcc 12 at -O3 takes the upper half of widen(narrow(v)) for that of v itself, without rounding.
  __attribute__((noinline)) static Reg<float>::Type narrow(Type low, Type high) {
    return Reg<float>::Type{static_cast<float>(low[0]), static_cast<float>(low[1]), static_cast<float>(high[0]),
                            static_cast<float>(high[1])};
  }
  // One instruction on every target that has a correctly rounded one (-fno-math-errno).
  static Type sqrt(Type v) { return Type{__builtin_sqrt(v[0]), __builtin_sqrt(v[1])}; }
};

inline void end_of_streams() {}

}  // namespace
}  // namespace SIMDNORM_ISA
}  // namespace simdnorm

#include "native/simd/vec.h"

#endif  // SIMDNORM_SIMD_VEC_PORTABLE_H_
