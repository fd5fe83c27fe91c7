// NEON, the baseline of arm64: sixteen floats are four registers, sixteen doubles eight. The contract is in vec.h.
#ifndef SIMDNORM_SIMD_VEC_NEON_H_
#define SIMDNORM_SIMD_VEC_NEON_H_

#include <arm_neon.h>
#include <stddef.h>
#include <stdint.h>

#include "native/core/storage.h"

namespace simdnorm {
namespace SIMDNORM_ISA {
namespace {

// Sixteen bytes.
struct Bytes {
  uint8x16_t r;
  static Bytes load(const uint8_t* p) { return {vld1q_u8(p)}; }
  void store(uint8_t* p) const { vst1q_u8(p, r); }
  Bytes pick(Bytes from) const { return {vqtbl1q_u8(r, from.r)}; }
  friend Bytes operator|(Bytes a, Bytes b) { return {vorrq_u8(a.r, b.r)}; }
};

template <class T>
struct Reg;

template <>
struct Reg<float> {
  using Type = float32x4_t;
  static constexpr size_t kLanes = 4;
  static Type load(const float* p) { return vld1q_f32(p); }
  static void store(float* p, Type v) { vst1q_f32(p, v); }
  static void stream(float* p, Type v) { store(p, v); }
  static void stream_few(float* p, const float* from, size_t n) { __builtin_memcpy(p, from, n * sizeof(float)); }
  static Type fill(float s) { return vdupq_n_f32(s); }
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
    const int32x4_t lane = {0, 1, 2, 3};
    const uint32x4_t kept = vandq_u32(vcgeq_s32(lane, vdupq_n_s32(static_cast<int32_t>(from))),
                                      vcltq_s32(lane, vdupq_n_s32(static_cast<int32_t>(to))));
    return vreinterpretq_f32_u32(vandq_u32(vreinterpretq_u32_f32(v), kept));
  }
  static Type at_least(Type v, Type limit) { return vbslq_f32(vcltq_f32(v, limit), limit, v); }
  static Type keep_open(Type v, Type gate) {
    return vreinterpretq_f32_u32(vbicq_u32(vreinterpretq_u32_f32(v), vcleq_f32(gate, fill(0))));
  }
  static Type sums(const Type* v) {
    const auto pairs = [](Type a, Type b) {
      const float64x2_t p = vreinterpretq_f64_f32(a), q = vreinterpretq_f64_f32(b);
      return vreinterpretq_f32_f64(vzip1q_f64(p, q)) + vreinterpretq_f32_f64(vzip2q_f64(p, q));
    };
    return vpaddq_f32(pairs(v[0], v[1]), pairs(v[2], v[3]));
  }
  static uint32_t at_most(Type a, Type b) {
    const uint32x4_t bit = {1, 2, 4, 8};
    return vaddvq_u32(vandq_u32(vcleq_f32(a, b), bit));
  }
  static Type load(const Float16* p) { return vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(&p->bits))); }
  static void store(Float16* p, Type v) { vst1_u16(&p->bits, vreinterpret_u16_f16(vcvt_f16_f32(v))); }
  static Type load(const BFloat16* p) { return vreinterpretq_f32_u32(vshll_n_u16(vld1_u16(&p->bits), 16)); }
  static Type of_bytes(Bytes b, size_t i) {
    const uint16x8_t eight = vmovl_u8(i < 2 ? vget_low_u8(b.r) : vget_high_u8(b.r));
    return vcvtq_f32_u32(vmovl_u16(i % 2 == 0 ? vget_low_u16(eight) : vget_high_u16(eight)));
  }
  static Bytes to_bytes(const Type* v) {
    const auto eight = [](Type a, Type b) {
      return vmovn_u16(vcombine_u16(vmovn_u32(vcvtnq_u32_f32(a)), vmovn_u32(vcvtnq_u32_f32(b))));
    };
    return {vcombine_u8(eight(v[0], v[1]), eight(v[2], v[3]))};
  }
  static void store(BFloat16* p, Type v) {
    const uint32x4_t bits = vreinterpretq_u32_f32(v), upper = vshrq_n_u32(bits, 16);
    const uint32x4_t odd = vandq_u32(upper, vdupq_n_u32(1));
    const uint32x4_t near = vshrq_n_u32(vaddq_u32(bits, vaddq_u32(odd, vdupq_n_u32(0x7fff))), 16);
    const uint32x4_t all = vbslq_u32(vceqq_f32(v, v), near, vorrq_u32(upper, vdupq_n_u32(0x40)));
    vst1_u16(&p->bits, vmovn_u32(all));
  }
};

template <>
struct Reg<double> {
  using Type = float64x2_t;
  static constexpr size_t kLanes = 2;
  static Type load(const double* p) { return vld1q_f64(p); }
  static void store(double* p, Type v) { vst1q_f64(p, v); }
  static void stream(double* p, Type v) { store(p, v); }
  static void stream_few(double* p, const double* from, size_t n) { __builtin_memcpy(p, from, n * sizeof(double)); }
  static Type fill(double s) { return vdupq_n_f64(s); }
  static Type load_some(const double* p, size_t from, size_t) {
    return from == 0 ? vld1q_lane_f64(p, fill(0), 0) : vld1q_lane_f64(p + 1, fill(0), 1);
  }
  static void store_some(double* p, size_t from, size_t, Type v) {
    if (from == 0) {
      vst1q_lane_f64(p, v, 0);
    } else {
      vst1q_lane_f64(p + 1, v, 1);
    }
  }
  static Type keep_some(Type v, size_t from, size_t) {
    return from == 0 ? vsetq_lane_f64(0, v, 1) : vsetq_lane_f64(0, v, 0);
  }
  static double sum(Type v) { return vgetq_lane_f64(v, 0) + vgetq_lane_f64(v, 1); }
  static Type at_least(Type v, Type limit) { return vbslq_f64(vcltq_f64(v, limit), limit, v); }
  static Type keep_open(Type v, Type gate) {
    return vreinterpretq_f64_u64(vbicq_u64(vreinterpretq_u64_f64(v), vcleq_f64(gate, fill(0))));
  }
  static uint32_t at_most(Type a, Type b) {
    const uint64x2_t mask = vcleq_f64(a, b);
    return static_cast<uint32_t>((vgetq_lane_u64(mask, 0) & 1) | (vgetq_lane_u64(mask, 1) & 2));
  }
  static Type widen_low(float32x4_t f) { return vcvt_f64_f32(vget_low_f32(f)); }
  static Type widen_high(float32x4_t f) { return vcvt_high_f64_f32(f); }
  static float32x4_t narrow(Type low, Type high) { return vcvt_high_f32_f64(vcvt_f32_f64(low), high); }
  static Type sqrt(Type v) { return vsqrtq_f64(v); }
};

inline void end_of_streams() {}

}  // namespace
}  // namespace SIMDNORM_ISA
}  // namespace simdnorm

#include "native/simd/vec.h"

#endif  // SIMDNORM_SIMD_VEC_NEON_H_
