// AVX-512 F, BW, DQ, VL: sixteen floats are one register, sixteen doubles two. The contract is in vec.h.
#ifndef SIMDNORM_SIMD_VEC_AVX512_H_
#define SIMDNORM_SIMD_VEC_AVX512_H_

#include <immintrin.h>
#include <stddef.h>
#include <stdint.h>

#include "native/core/storage.h"

namespace simdnorm {
namespace SIMDNORM_ISA {
namespace {

template <class T>
struct Reg;

template <>
struct Reg<float> {
  using Type = __m512;
  static constexpr size_t kLanes = 16;
  static Type load(const float* p) { return _mm512_loadu_ps(p); }
  static void store(float* p, Type v) { _mm512_storeu_ps(p, v); }
  static Type fill(float s) { return _mm512_set1_ps(s); }
  static __mmask16 first(size_t n) { return static_cast<__mmask16>((1u << n) - 1); }
  static Type load_first(const float* p, size_t n) { return _mm512_maskz_loadu_ps(first(n), p); }
  static void store_first(float* p, size_t n, Type v) { _mm512_mask_storeu_ps(p, first(n), v); }
  static Type keep_first(Type v, size_t n) { return _mm512_maskz_mov_ps(first(n), v); }
  static Type at_least(Type v, Type limit) { return _mm512_max_ps(limit, v); }
  static Type keep_open(Type v, Type gate) {
    return _mm512_maskz_mov_ps(_mm512_cmp_ps_mask(gate, fill(0), _CMP_NLE_UQ), v);
  }
  static uint32_t at_most(Type a, Type b) { return _mm512_cmp_ps_mask(a, b, _CMP_LE_OQ); }
  static Type load(const Float16* p) {
    return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
  }
  static void store(Float16* p, Type v) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), _mm512_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT));
  }
  static Type load(const BFloat16* p) {
    const __m512i bits = _mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
    return _mm512_castsi512_ps(_mm512_slli_epi32(bits, 16));
  }
  static void store(BFloat16* p, Type v) {
    const __m512i bits = _mm512_castps_si512(v), upper = _mm512_srli_epi32(bits, 16);
    const __m512i odd = _mm512_and_si512(upper, _mm512_set1_epi32(1));
    const __m512i sum = _mm512_add_epi32(bits, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff)));
    const __m512i near = _mm512_srli_epi32(sum, 16), quiet = _mm512_or_si512(upper, _mm512_set1_epi32(0x40));
    const __m512i all = _mm512_mask_mov_epi32(near, _mm512_cmp_ps_mask(v, v, _CMP_UNORD_Q), quiet);
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), _mm512_cvtepi32_epi16(all));
  }
};

template <>
struct Reg<double> {
  using Type = __m512d;
  static constexpr size_t kLanes = 8;
  static Type load(const double* p) { return _mm512_loadu_pd(p); }
  static void store(double* p, Type v) { _mm512_storeu_pd(p, v); }
  static Type fill(double s) { return _mm512_set1_pd(s); }
  static __mmask8 first(size_t n) { return static_cast<__mmask8>((1u << n) - 1); }
  static Type load_first(const double* p, size_t n) { return _mm512_maskz_loadu_pd(first(n), p); }
  static void store_first(double* p, size_t n, Type v) { _mm512_mask_storeu_pd(p, first(n), v); }
  static Type keep_first(Type v, size_t n) { return _mm512_maskz_mov_pd(first(n), v); }
  static double sum(Type v) {
    const __m256d four = _mm512_castpd512_pd256(v) + _mm512_extractf64x4_pd(v, 1);
    const __m128d two = _mm256_castpd256_pd128(four) + _mm256_extractf128_pd(four, 1);
    return _mm_cvtsd_f64(_mm_add_sd(two, _mm_unpackhi_pd(two, two)));
  }
  static Type at_least(Type v, Type limit) { return _mm512_max_pd(limit, v); }
  static Type keep_open(Type v, Type gate) {
    return _mm512_maskz_mov_pd(_mm512_cmp_pd_mask(gate, fill(0), _CMP_NLE_UQ), v);
  }
  static uint32_t at_most(Type a, Type b) { return _mm512_cmp_pd_mask(a, b, _CMP_LE_OQ); }
  static Type widen_low(__m512 f) { return _mm512_cvtps_pd(_mm512_castps512_ps256(f)); }
  static Type widen_high(__m512 f) { return _mm512_cvtps_pd(_mm512_extractf32x8_ps(f, 1)); }
  static __m512 narrow(Type low, Type high) {
    return _mm512_insertf32x8(_mm512_castps256_ps512(_mm512_cvtpd_ps(low)), _mm512_cvtpd_ps(high), 1);
  }
  static Type sqrt(Type v) { return _mm512_sqrt_pd(v); }
};

}  // namespace
}  // namespace SIMDNORM_ISA
}  // namespace simdnorm

#include "native/simd/vec.h"

#endif  // SIMDNORM_SIMD_VEC_AVX512_H_
