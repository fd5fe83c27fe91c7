// Stores past the caches, of parts of a line. Shared by the instruction sets of x86; see vec.h.
#ifndef SIMDNORM_SIMD_X86_H_
#define SIMDNORM_SIMD_X86_H_

#include <immintrin.h>
#include <stddef.h>
#include <stdint.h>

namespace simdnorm {
namespace SIMDNORM_ISA {
namespace {

// n bytes past the caches; `to` and n are multiples of four.
inline void stream_bytes(void* to, const void* from, size_t n) {
  char* p = static_cast<char*>(to);
  const char* q = static_cast<const char*>(from);
  for (const char* const end = p + n; p < end;) {
    if (reinterpret_cast<uintptr_t>(p) % 16 == 0 && end - p >= 16) {
      _mm_stream_si128(reinterpret_cast<__m128i*>(p), _mm_loadu_si128(reinterpret_cast<const __m128i*>(q)));
      p += 16;
      q += 16;
    } else {
      int bits;
      __builtin_memcpy(&bits, q, sizeof bits);
      _mm_stream_si32(reinterpret_cast<int*>(p), bits);
      p += 4;
      q += 4;
    }
  }
}

// Sixteen bytes.
struct Bytes {
  __m128i r;
  static Bytes load(const uint8_t* p) { return {_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))}; }
  void store(uint8_t* p) const { _mm_storeu_si128(reinterpret_cast<__m128i*>(p), r); }
  Bytes pick(Bytes from) const { return {_mm_shuffle_epi8(r, from.r)}; }
  friend Bytes operator|(Bytes a, Bytes b) { return {_mm_or_si128(a.r, b.r)}; }
};

inline void end_of_streams() { _mm_sfence(); }

}  // namespace
}  // namespace SIMDNORM_ISA
}  // namespace simdnorm

#endif  // SIMDNORM_SIMD_X86_H_
