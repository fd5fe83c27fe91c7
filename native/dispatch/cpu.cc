// Raw CPUID and XGETBV rather than __builtin_cpu_supports: the latter needs libgcc's __cpu_model, which other runtimes
// (zig's compiler-rt) lack.
#include "native/dispatch/cpu.h"

#include <stdint.h>

#include <atomic>
#include <initializer_list>

namespace simdnorm {
namespace cpu {
namespace {

// Where the CPU does not say.
constexpr Caches kUsual = {size_t(1) << 20, size_t(16) << 20};

Caches detect_caches();

std::atomic<size_t> g_l2{0}, g_l3{0};

}  // namespace

Caches caches() {
  if (g_l2.load(std::memory_order_acquire) == 0) use_caches(detect_caches());
  return {g_l2.load(std::memory_order_relaxed), g_l3.load(std::memory_order_relaxed)};
}

void use_caches(Caches c) {
  g_l3.store(c.l3, std::memory_order_relaxed);
  g_l2.store(c.l2, std::memory_order_release);
}

}  // namespace cpu
}  // namespace simdnorm

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

// Leaf 4 of Intel and 0x8000001d of AMD have one cache in each subleaf, in the same layout.
Caches detect_caches() {
  Caches found = {0, 0};
  for (const unsigned leaf : {4u, 0x8000001du}) {
    unsigned a, b, c, d;
    for (unsigned i = 0; i < 16 && __get_cpuid_count(leaf, i, &a, &b, &c, &d) && (a & 31) != 0; i++) {
      const size_t ways = (b >> 22) + 1, partitions = (b >> 12 & 1023) + 1, line = (b & 4095) + 1;
      const size_t bytes = ways * partitions * line * (static_cast<size_t>(c) + 1);
      if ((a >> 5 & 7) == 2) found.l2 = bytes;
      if ((a >> 5 & 7) == 3) found.l3 = bytes;
    }
    if (found.l2 > 0) break;
  }
  if (found.l2 == 0) return kUsual;
  if (found.l3 == 0) found.l3 = found.l2;
  return found;
}

}  // namespace

bool avx512() { return features().avx512; }
bool avx2() { return features().avx2; }
bool neon() { return false; }
bool simd128() { return false; }
bool portable() { return true; }

}  // namespace cpu
}  // namespace simdnorm

#else

namespace simdnorm {
namespace cpu {

namespace {
Caches detect_caches() { return kUsual; }
}  // namespace

bool avx512() { return false; }
bool avx2() { return false; }
#if defined(__aarch64__) || defined(_M_ARM64)
bool neon() { return true; }     // part of the architecture
#else
bool neon() { return false; }
#endif
bool simd128() { return true; }  // of WebAssembly, whose engine has checked it
bool portable() { return true; }

}  // namespace cpu
}  // namespace simdnorm

#endif
