// AVX-512 F, BW, DQ, VL: sixteen floats are one register, sixteen doubles two. The contract is in vec.h.
#ifndef SIMDNORM_SIMD_VEC_AVX512_H_
#define SIMDNORM_SIMD_VEC_AVX512_H_

#include <immintrin.h>
#include <stddef.h>
#include <stdint.h>

#include "native/core/storage.h"
#include "native/simd/x86.h"

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
  static void stream(float* p, Type v) { _mm512_stream_ps(p, v); }
  static void stream_few(float* p, const float* from, size_t n) { stream_bytes(p, from, n * sizeof(float)); }
  static Type fill(float s) { return _mm512_set1_ps(s); }
  static __mmask16 mask(size_t from, size_t to) { return static_cast<__mmask16>((1u << to) - (1u << from)); }
  static Type load_some(const float* p, size_t from, size_t to) { return _mm512_maskz_loadu_ps(mask(from, to), p); }
  static void store_some(float* p, size_t from, size_t to, Type v) { _mm512_mask_storeu_ps(p, mask(from, to), v); }
  static Type keep_some(Type v, size_t from, size_t to) { return _mm512_maskz_mov_ps(mask(from, to), v); }
  static Type at_least(Type v, Type limit) { return _mm512_max_ps(limit, v); }
  static Type keep_open(Type v, Type gate) {
    return _mm512_maskz_mov_ps(_mm512_cmp_ps_mask(gate, fill(0), _CMP_NLE_UQ), v);
  }
  // Lanes a[i] + a[i + 8], the same of b.
  static Type halve(Type a, Type b) { return _mm512_shuffle_f32x4(a, b, 0x44) + _mm512_shuffle_f32x4(a, b, 0xee); }
  static Type sums(const Type* v) {
    Type quad[4];
    for (int i = 0; i < 4; i++) {  // four lanes each of v[i], v[i + 4], v[i + 8] and v[i + 12]
      const Type a = halve(v[i], v[i + 4]), b = halve(v[i + 8], v[i + 12]);
      quad[i] = _mm512_shuffle_f32x4(a, b, 0x88) + _mm512_shuffle_f32x4(a, b, 0xdd);
    }
    const auto pairs = [](Type a, Type b) {
      const __m512d p = _mm512_castps_pd(a), q = _mm512_castps_pd(b);
      return _mm512_castpd_ps(_mm512_unpacklo_pd(p, q)) + _mm512_castpd_ps(_mm512_unpackhi_pd(p, q));
    };
    const Type a = pairs(quad[0], quad[1]), b = pairs(quad[2], quad[3]);
    return _mm512_shuffle_ps(a, b, 0x88) + _mm512_shuffle_ps(a, b, 0xdd);
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
  static Type of_bytes(Bytes b, size_t) { return _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(b.r)); }
  static Bytes to_bytes(const Type* v) { return {_mm512_cvtepi32_epi8(_mm512_cvtps_epi32(v[0]))}; }
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
  static void stream(double* p, Type v) { _mm512_stream_pd(p, v); }
  static void stream_few(double* p, const double* from, size_t n) { stream_bytes(p, from, n * sizeof(double)); }
  static Type fill(double s) { return _mm512_set1_pd(s); }
  static __mmask8 mask(size_t from, size_t to) { return static_cast<__mmask8>((1u << to) - (1u << from)); }
  static Type load_some(const double* p, size_t from, size_t to) { return _mm512_maskz_loadu_pd(mask(from, to), p); }
  static void store_some(double* p, size_t from, size_t to, Type v) { _mm512_mask_storeu_pd(p, mask(from, to), v); }
  static Type keep_some(Type v, size_t from, size_t to) { return _mm512_maskz_mov_pd(mask(from, to), v); }
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

#define SIMDNORM_HAS_MASKS
#include "native/simd/vec.h"

#endif  // SIMDNORM_SIMD_VEC_AVX512_H_
