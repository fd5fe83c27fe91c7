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
  static Type fill(T s) {
    Type v;
    for (size_t i = 0; i < N; i++) v[i] = s;
    return v;
  }
  static Type load_first(const T* p, size_t n) {
    Type v = fill(0);
    for (size_t i = 0; i < n; i++) v[i] = p[i];
    return v;
  }
  static void store_first(T* p, size_t n, Type v) {
    for (size_t i = 0; i < n; i++) p[i] = v[i];
  }
  static Type keep_first(Type v, size_t n) {
    for (size_t i = n; i < N; i++) v[i] = 0;
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
  static Reg<float>::Type narrow(Type low, Type high) {
    return Reg<float>::Type{static_cast<float>(low[0]), static_cast<float>(low[1]), static_cast<float>(high[0]),
                            static_cast<float>(high[1])};
  }
  // One instruction on every target that has a correctly rounded one (-fno-math-errno).
  static Type sqrt(Type v) { return Type{__builtin_sqrt(v[0]), __builtin_sqrt(v[1])}; }
};

}  // namespace
}  // namespace SIMDNORM_ISA
}  // namespace simdnorm

#include "native/simd/vec.h"

#endif  // SIMDNORM_SIMD_VEC_PORTABLE_H_
