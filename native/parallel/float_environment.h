// The IEEE defaults for the length of one job: round to nearest, denormals kept. Another addon may have switched them
// for this thread, and a thread inherits its creator's; results must not depend on it, nor may we leave it changed.
#ifndef SIMDNORM_PARALLEL_FLOAT_ENVIRONMENT_H_
#define SIMDNORM_PARALLEL_FLOAT_ENVIRONMENT_H_

#include <stdint.h>

#if defined(__x86_64__) || defined(_M_X64)
#include <xmmintrin.h>
#endif

namespace simdnorm {

class FloatEnvironment {
 public:
  FloatEnvironment() : before_(read()) {
    if (before_ != kDefault) write(kDefault);
  }
  ~FloatEnvironment() {
    if (before_ != kDefault) write(before_);
  }
  FloatEnvironment(const FloatEnvironment&) = delete;
  FloatEnvironment& operator=(const FloatEnvironment&) = delete;

 private:
#if defined(__x86_64__) || defined(_M_X64)
  using Word = unsigned;
  static constexpr Word kDefault = 0x1f80;                   // every exception masked, nothing else
  static Word read() { return _mm_getcsr() & ~Word(0x3f); }  // but for the flags already raised
  static void write(Word w) { _mm_setcsr(w); }
#elif defined(__aarch64__)
  using Word = uint64_t;
  static constexpr Word kDefault = 0;
  static Word read() {
    Word w;
    __asm__ volatile("mrs %0, fpcr" : "=r"(w));
    return w;
  }
  static void write(Word w) { __asm__ volatile("msr fpcr, %0" : : "r"(w)); }
#else
  using Word = int;
  static constexpr Word kDefault = 0;
  static Word read() { return 0; }
  static void write(Word) {}
#endif
  const Word before_;
};

}  // namespace simdnorm

#endif  // SIMDNORM_PARALLEL_FLOAT_ENVIRONMENT_H_
