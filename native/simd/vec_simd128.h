// SIMD of WebAssembly: sixteen floats are four registers, sixteen doubles eight. The contract is in vec.h.
#ifndef SIMDNORM_SIMD_VEC_SIMD128_H_
#define SIMDNORM_SIMD_VEC_SIMD128_H_

#include <stddef.h>
#include <stdint.h>
#include <wasm_simd128.h>

#include "native/core/storage.h"

namespace simdnorm {
namespace SIMDNORM_ISA {
namespace {

typedef float Floats __attribute__((vector_size(16)));
typedef double Doubles2 __attribute__((vector_size(16)));
typedef uint32_t Words4 __attribute__((vector_size(16)));

// Sixteen bytes.
struct Bytes {
  v128_t r;
  static Bytes load(const uint8_t* p) { return {wasm_v128_load(p)}; }
  void store(uint8_t* p) const { wasm_v128_store(p, r); }
  Bytes pick(Bytes from) const { return {wasm_i8x16_swizzle(r, from.r)}; }
  friend Bytes operator|(Bytes a, Bytes b) { return {wasm_v128_or(a.r, b.r)}; }
};

// `yes` where the mask is set, else `no`.
template <class V>
inline V select(v128_t mask, V yes, V no) {
  return reinterpret_cast<V>(wasm_v128_bitselect(reinterpret_cast<v128_t>(yes), reinterpret_cast<v128_t>(no), mask));
}

template <class T>
struct Reg;

template <>
struct Reg<float> {
  using Type = Floats;
  static constexpr size_t kLanes = 4;
  static Type load(const float* p) { return reinterpret_cast<Type>(wasm_v128_load(p)); }
  static void store(float* p, Type v) { wasm_v128_store(p, reinterpret_cast<v128_t>(v)); }
  static void stream(float* p, Type v) { store(p, v); }
  static void stream_few(float* p, const float* from, size_t n) { __builtin_memcpy(p, from, n * sizeof(float)); }
  static Type fill(float s) { return reinterpret_cast<Type>(wasm_f32x4_splat(s)); }
  static Type load_some(const float* p, size_t from, size_t to) {
    float all[kLanes] = {};
    for (size_t i = from; i < to; i++) all[i] = p[i];
    return load(all);
  }
  static void store_some(float* p, size_t from, size_t to, Type v) {
    float all[kLanes];
    store(all, v);
    for (size_t i = from; i < to; i++) p[i] = all[i];
  }
  static Type keep_some(Type v, size_t from, size_t to) {
    const v128_t lane = wasm_i32x4_const(0, 1, 2, 3);
    const v128_t kept = wasm_v128_and(wasm_i32x4_ge(lane, wasm_i32x4_splat(static_cast<int32_t>(from))),
                                      wasm_i32x4_lt(lane, wasm_i32x4_splat(static_cast<int32_t>(to))));
    return reinterpret_cast<Type>(wasm_v128_and(reinterpret_cast<v128_t>(v), kept));
  }
  // pmax(a, b) is a < b ? b : a.
  static Type at_least(Type v, Type limit) {
    return reinterpret_cast<Type>(wasm_f32x4_pmax(reinterpret_cast<v128_t>(v), reinterpret_cast<v128_t>(limit)));
  }
  static Type keep_open(Type v, Type gate) {
    const v128_t shut = wasm_f32x4_le(reinterpret_cast<v128_t>(gate), wasm_f32x4_const_splat(0));
    return reinterpret_cast<Type>(wasm_v128_andnot(reinterpret_cast<v128_t>(v), shut));
  }
  static Type sums(const Type* v) {
    const auto pairs = [](Type a, Type b) {
      return __builtin_shufflevector(a, b, 0, 1, 4, 5) + __builtin_shufflevector(a, b, 2, 3, 6, 7);
    };
    const Type a = pairs(v[0], v[1]), b = pairs(v[2], v[3]);
    return __builtin_shufflevector(a, b, 0, 2, 4, 6) + __builtin_shufflevector(a, b, 1, 3, 5, 7);
  }
  static uint32_t at_most(Type a, Type b) {
    return wasm_i32x4_bitmask(wasm_f32x4_le(reinterpret_cast<v128_t>(a), reinterpret_cast<v128_t>(b)));
  }
  // As value_of and Rounded of native/core/storage.h have it.
  static Type load(const Float16* p) {
    const Words4 bits = reinterpret_cast<Words4>(wasm_u32x4_load16x4(p));
    const Words4 sign = (bits & 0x8000) << 16, rest = (bits & 0x7fff) << 13;
    const Words4 finite = reinterpret_cast<Words4>(reinterpret_cast<Type>(rest) * fill(0x1p112f));
    const v128_t open = wasm_i32x4_ge(reinterpret_cast<v128_t>(rest), wasm_i32x4_const_splat(0x7c00 << 13));
    return reinterpret_cast<Type>(sign | select(open, rest | 0x7f800000, finite));
  }
  static void store(Float16* p, Type v) {
    const Words4 bits = reinterpret_cast<Words4>(v), size = bits & 0x7fffffff;
    const auto from = [&](int32_t least) {
      return wasm_i32x4_ge(reinterpret_cast<v128_t>(size), wasm_i32x4_splat(least));
    };
    const Words4 ordinary = (size - 0x38000000 + 0xfff + (size >> 13 & 1)) >> 13;
    const Words4 subnormal = reinterpret_cast<Words4>(reinterpret_cast<Type>(size) + fill(0.5f)) - 0x3f000000;
    Words4 rest = select(from(0x38800000), ordinary, subnormal);
    rest = select(from(0x47800000), all(0x7c00), rest);
    rest = select(from(0x7f800001), all(0x7e00), rest);
    store_halves(p, rest | (bits >> 16 & 0x8000));
  }
  static Type load(const BFloat16* p) {
    return reinterpret_cast<Type>(reinterpret_cast<Words4>(wasm_u32x4_load16x4(p)) << 16);
  }
  static void store(BFloat16* p, Type v) {
    const Words4 bits = reinterpret_cast<Words4>(v), upper = bits >> 16;
    const Words4 near = (bits + 0x7fff + (upper & 1)) >> 16;
    const v128_t number = wasm_f32x4_eq(reinterpret_cast<v128_t>(v), reinterpret_cast<v128_t>(v));
    store_halves(p, select(number, near, upper | 0x40));
  }
  static Type of_bytes(Bytes b, size_t i) {
    const v128_t eight = i < 2 ? wasm_u16x8_extend_low_u8x16(b.r) : wasm_u16x8_extend_high_u8x16(b.r);
    const v128_t four = i % 2 == 0 ? wasm_u32x4_extend_low_u16x8(eight) : wasm_u32x4_extend_high_u16x8(eight);
    return reinterpret_cast<Type>(wasm_f32x4_convert_i32x4(four));
  }
  static Bytes to_bytes(const Type* v) {
    const auto whole = [](Type a) {
      return wasm_i32x4_trunc_sat_f32x4(wasm_f32x4_nearest(reinterpret_cast<v128_t>(a)));
    };
    return {wasm_u8x16_narrow_i16x8(wasm_i16x8_narrow_i32x4(whole(v[0]), whole(v[1])),
                                    wasm_i16x8_narrow_i32x4(whole(v[2]), whole(v[3])))};
  }

 private:
  static Words4 all(uint32_t w) { return reinterpret_cast<Words4>(wasm_i32x4_splat(static_cast<int32_t>(w))); }
  // Of words below 2^16.
  template <class S>
  static void store_halves(S* p, Words4 words) {
    const v128_t w = reinterpret_cast<v128_t>(words);
    wasm_v128_store64_lane(p, wasm_u16x8_narrow_i32x4(w, w), 0);
  }
};

template <>
struct Reg<double> {
  using Type = Doubles2;
  static constexpr size_t kLanes = 2;
  static Type load(const double* p) { return reinterpret_cast<Type>(wasm_v128_load(p)); }
  static void store(double* p, Type v) { wasm_v128_store(p, reinterpret_cast<v128_t>(v)); }
  static void stream(double* p, Type v) { store(p, v); }
  static void stream_few(double* p, const double* from, size_t n) { __builtin_memcpy(p, from, n * sizeof(double)); }
  static Type fill(double s) { return reinterpret_cast<Type>(wasm_f64x2_splat(s)); }
  static Type load_some(const double* p, size_t from, size_t) {
    return from == 0 ? reinterpret_cast<Type>(wasm_v128_load64_zero(p)) : Type{0, p[1]};
  }
  static void store_some(double* p, size_t from, size_t, Type v) { p[from] = v[from]; }
  static Type keep_some(Type v, size_t from, size_t) { return from == 0 ? Type{v[0], 0} : Type{0, v[1]}; }
  static double sum(Type v) { return v[0] + v[1]; }
  static Type at_least(Type v, Type limit) {
    return reinterpret_cast<Type>(wasm_f64x2_pmax(reinterpret_cast<v128_t>(v), reinterpret_cast<v128_t>(limit)));
  }
  static Type keep_open(Type v, Type gate) {
    const v128_t shut = wasm_f64x2_le(reinterpret_cast<v128_t>(gate), wasm_f64x2_const_splat(0));
    return reinterpret_cast<Type>(wasm_v128_andnot(reinterpret_cast<v128_t>(v), shut));
  }
  static uint32_t at_most(Type a, Type b) {
    return wasm_i64x2_bitmask(wasm_f64x2_le(reinterpret_cast<v128_t>(a), reinterpret_cast<v128_t>(b)));
  }
  static Type widen_low(Floats f) {
    return reinterpret_cast<Type>(wasm_f64x2_promote_low_f32x4(reinterpret_cast<v128_t>(f)));
  }
  static Type widen_high(Floats f) { return widen_low(__builtin_shufflevector(f, f, 2, 3, 2, 3)); }
  static Floats narrow(Type low, Type high) {
    const auto two = [](Type v) {
      return reinterpret_cast<Floats>(wasm_f32x4_demote_f64x2_zero(reinterpret_cast<v128_t>(v)));
    };
    return __builtin_shufflevector(two(low), two(high), 0, 1, 4, 5);
  }
  static Type sqrt(Type v) { return reinterpret_cast<Type>(wasm_f64x2_sqrt(reinterpret_cast<v128_t>(v))); }
};

inline void end_of_streams() {}

}  // namespace
}  // namespace SIMDNORM_ISA
}  // namespace simdnorm

#include "native/simd/vec.h"

#endif  // SIMDNORM_SIMD_VEC_SIMD128_H_
