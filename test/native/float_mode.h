// The floating-point mode of this thread: rounding and denormals.
#ifndef SIMDNORM_TEST_NATIVE_FLOAT_MODE_H_
#define SIMDNORM_TEST_NATIVE_FLOAT_MODE_H_

#include <stdint.h>

namespace test {

// kHostile: denormals flushed, as an addon that was built with -ffast-math leaves them, and another rounding.
#if defined(__x86_64__)
using Mode = unsigned;
constexpr Mode kHostile = 0x1f80 | 0x8040 | 0x6000;
inline Mode mode() { return __builtin_ia32_stmxcsr() & ~0x3fu; }
inline void set_mode(Mode m) { __builtin_ia32_ldmxcsr(m); }
#elif defined(__aarch64__)
using Mode = uint64_t;
constexpr Mode kHostile = uint64_t(7) << 22;
inline Mode mode() {
  Mode m;
  __asm__ volatile("mrs %0, fpcr" : "=r"(m));
  return m;
}
inline void set_mode(Mode m) { __asm__ volatile("msr fpcr, %0" : : "r"(m)); }
#else
using Mode = int;
constexpr Mode kHostile = 0;
inline Mode mode() { return 0; }
inline void set_mode(Mode) {}
#endif

}  // namespace test

#endif  // SIMDNORM_TEST_NATIVE_FLOAT_MODE_H_
