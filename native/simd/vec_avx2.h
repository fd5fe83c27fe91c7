// AVX2: sixteen floats are two registers, sixteen doubles four. The contract is in vec.h.
#ifndef SIMDNORM_SIMD_VEC_AVX2_H_
#define SIMDNORM_SIMD_VEC_AVX2_H_

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
  using Type = __m256;
  static constexpr size_t kLanes = 8;
  static Type load(const float* p) { return _mm256_loadu_ps(p); }
  static void store(float* p, Type v) { _mm256_storeu_ps(p, v); }
  static void stream(float* p, Type v) { _mm256_stream_ps(p, v); }
  static void stream_few(float* p, const float* from, size_t n) { stream_bytes(p, from, n * sizeof(float)); }
  static Type fill(float s) { return _mm256_set1_ps(s); }
  static __m256i below(size_t n) {
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(static_cast<int>(n)), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
  }
  static __m256i mask(size_t from, size_t to) { return _mm256_andnot_si256(below(from), below(to)); }
  static Type load_some(const float* p, size_t from, size_t to) { return _mm256_maskload_ps(p, mask(from, to)); }
  static void store_some(float* p, size_t from, size_t to, Type v) { _mm256_maskstore_ps(p, mask(from, to), v); }
  static Type keep_some(Type v, size_t from, size_t to) {
    return _mm256_and_ps(v, _mm256_castsi256_ps(mask(from, to)));
  }
  static Type at_least(Type v, Type limit) { return _mm256_max_ps(limit, v); }
  static Type keep_open(Type v, Type gate) { return _mm256_and_ps(v, _mm256_cmp_ps(gate, fill(0), _CMP_NLE_UQ)); }
  static Type sums(const Type* v) {
    Type half[4];  // four lanes each of v[i] and v[i + 4]
    for (int i = 0; i < 4; i++) {
      half[i] = _mm256_permute2f128_ps(v[i], v[i + 4], 0x20) + _mm256_permute2f128_ps(v[i], v[i + 4], 0x31);
    }
    const auto pairs = [](Type a, Type b) {
      const __m256d p = _mm256_castps_pd(a), q = _mm256_castps_pd(b);
      return _mm256_castpd_ps(_mm256_unpacklo_pd(p, q)) + _mm256_castpd_ps(_mm256_unpackhi_pd(p, q));
    };
    const Type a = pairs(half[0], half[1]), b = pairs(half[2], half[3]);
    return _mm256_shuffle_ps(a, b, 0x88) + _mm256_shuffle_ps(a, b, 0xdd);
  }
  static uint32_t at_most(Type a, Type b) {
    return static_cast<uint32_t>(_mm256_movemask_ps(_mm256_cmp_ps(a, b, _CMP_LE_OQ)));
  }
  static Type load(const Float16* p) { return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))); }
  static void store(Float16* p, Type v) {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm256_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT));
  }
  static Type load(const BFloat16* p) {
    const __m256i bits = _mm256_cvtepu16_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
    return _mm256_castsi256_ps(_mm256_slli_epi32(bits, 16));
  }
  static Type of_bytes(Bytes b, size_t i) {
    return _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(i == 0 ? b.r : _mm_srli_si128(b.r, 8)));
  }
  static Bytes to_bytes(const Type* v) {
    const auto eight = [](Type f) {
      const __m256i i = _mm256_cvtps_epi32(f);
      return _mm_packs_epi32(_mm256_castsi256_si128(i), _mm256_extracti128_si256(i, 1));
    };
    return {_mm_packus_epi16(eight(v[0]), eight(v[1]))};
  }
  static void store(BFloat16* p, Type v) {
    const __m256i bits = _mm256_castps_si256(v), upper = _mm256_srli_epi32(bits, 16);
    const __m256i odd = _mm256_and_si256(upper, _mm256_set1_epi32(1));
    const __m256i sum = _mm256_add_epi32(bits, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff)));
    const __m256i near = _mm256_srli_epi32(sum, 16), quiet = _mm256_or_si256(upper, _mm256_set1_epi32(0x40));
    const __m256i all = _mm256_blendv_epi8(near, quiet, _mm256_castps_si256(_mm256_cmp_ps(v, v, _CMP_UNORD_Q)));
    const __m128i low = _mm256_castsi256_si128(all), high = _mm256_extracti128_si256(all, 1);
    _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm_packus_epi32(low, high));
  }
};

template <>
struct Reg<double> {
  using Type = __m256d;
  static constexpr size_t kLanes = 4;
  static Type load(const double* p) { return _mm256_loadu_pd(p); }
  static void store(double* p, Type v) { _mm256_storeu_pd(p, v); }
  static void stream(double* p, Type v) { _mm256_stream_pd(p, v); }
  static void stream_few(double* p, const double* from, size_t n) { stream_bytes(p, from, n * sizeof(double)); }
  static Type fill(double s) { return _mm256_set1_pd(s); }
  static __m256i below(size_t n) {
    return _mm256_cmpgt_epi64(_mm256_set1_epi64x(static_cast<long long>(n)), _mm256_setr_epi64x(0, 1, 2, 3));
  }
  static __m256i mask(size_t from, size_t to) { return _mm256_andnot_si256(below(from), below(to)); }
  static Type load_some(const double* p, size_t from, size_t to) { return _mm256_maskload_pd(p, mask(from, to)); }
  static void store_some(double* p, size_t from, size_t to, Type v) { _mm256_maskstore_pd(p, mask(from, to), v); }
  static Type keep_some(Type v, size_t from, size_t to) {
    return _mm256_and_pd(v, _mm256_castsi256_pd(mask(from, to)));
  }
  static double sum(Type v) {
    const __m128d two = _mm256_castpd256_pd128(v) + _mm256_extractf128_pd(v, 1);
    return _mm_cvtsd_f64(_mm_add_sd(two, _mm_unpackhi_pd(two, two)));
  }
  static Type at_least(Type v, Type limit) { return _mm256_max_pd(limit, v); }
  static Type keep_open(Type v, Type gate) { return _mm256_and_pd(v, _mm256_cmp_pd(gate, fill(0), _CMP_NLE_UQ)); }
  static uint32_t at_most(Type a, Type b) {
    return static_cast<uint32_t>(_mm256_movemask_pd(_mm256_cmp_pd(a, b, _CMP_LE_OQ)));
  }
  static Type widen_low(__m256 f) { return _mm256_cvtps_pd(_mm256_castps256_ps128(f)); }
  static Type widen_high(__m256 f) { return _mm256_cvtps_pd(_mm256_extractf128_ps(f, 1)); }
  static __m256 narrow(Type low, Type high) {
    return _mm256_insertf128_ps(_mm256_castps128_ps256(_mm256_cvtpd_ps(low)), _mm256_cvtpd_ps(high), 1);
  }
  static Type sqrt(Type v) { return _mm256_sqrt_pd(v); }
};

}  // namespace
}  // namespace SIMDNORM_ISA
}  // namespace simdnorm

#define SIMDNORM_HAS_MASKS
#include "native/simd/vec.h"

#endif  // SIMDNORM_SIMD_VEC_AVX2_H_
