// Raw CPUID and XGETBV rather than __builtin_cpu_supports: the latter needs libgcc's __cpu_model, which other runtimes
// (zig's compiler-rt) lack.
#include "native/dispatch/cpu.h"

#include <stdint.h>

#if defined(__x86_64__) || defined(_M_X64)
#include <cpuid.h>

namespace simdnorm {
namespace cpu {
namespace {

struct Features {
  bool avx2 = false, avx512 = false;
};

uint64_t saved_state() {
  uint32_t low, high;
  __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return (static_cast<uint64_t>(high) << 32) | low;
}

bool bit(unsigned word, int i) { return (word >> i) & 1; }

Features detect() {
  Features f;
  unsigned a, b, c, d;
  if (!__get_cpuid(1, &a, &b, &c, &d)) return f;
  const bool osxsave = bit(c, 27), avx = bit(c, 28);
  const bool f16c = bit(c, 29);
  if (!osxsave || !avx) return f;
  const uint64_t state = saved_state();
  if ((state & 0x6) != 0x6) return f;  // XMM and YMM
  if (!__get_cpuid_count(7, 0, &a, &b, &c, &d)) return f;
  f.avx2 = bit(b, 5) && f16c;
  const bool zmm = (state & 0xe6) == 0xe6;  // and opmasks and both halves of ZMM
  f.avx512 = f.avx2 && zmm && bit(b, 16) /* F */ && bit(b, 17) /* DQ */ && bit(b, 30) /* BW */ && bit(b, 31) /* VL */;
  return f;
}

const Features& features() {
  static const Features f = detect();
  return f;
}

}  // namespace

bool avx512() { return features().avx512; }
bool avx2() { return features().avx2; }
bool neon() { return false; }
bool portable() { return true; }

}  // namespace cpu
}  // namespace simdnorm

#else

namespace simdnorm {
namespace cpu {

bool avx512() { return false; }
bool avx2() { return false; }
#if defined(__aarch64__) || defined(_M_ARM64)
bool neon() { return true; }  // part of the architecture
#else
bool neon() { return false; }
#endif
bool portable() { return true; }

}  // namespace cpu
}  // namespace simdnorm

#endif
