// The whole harness: checks that are counted, a line for each that fails, and a summary that is the exit status.
#ifndef SIMDNORM_TEST_NATIVE_CHECK_H_
#define SIMDNORM_TEST_NATIVE_CHECK_H_

#include <stdarg.h>
#include <stdio.h>

#include <atomic>

namespace test {

inline std::atomic<int> passed{0}, failed{0};

inline bool pass() { return ++passed > 0; }

__attribute__((format(printf, 4, 5))) inline bool fail(const char* file, int line, const char* what, const char* format,
                                                       ...) {
  if (++failed > 20) return false;  // one fault often shows in thousands of cases
  printf("%s:%d: %s", file, line, what);
  va_list arguments;
  va_start(arguments, format);
  vprintf(format, arguments);
  va_end(arguments);
  printf("\n");
  fflush(stdout);  // the next case may crash
  return false;
}

inline int finish() {
  printf("%d passed, %d failed\n", passed.load(), failed.load());
  return failed == 0 ? 0 : 1;
}

}  // namespace test

// CHECK(condition) or CHECK(condition, "which case: %d", n).
#define CHECK(condition, ...) ((condition) ? test::pass() : test::fail(__FILE__, __LINE__, #condition, " " __VA_ARGS__))

#endif  // SIMDNORM_TEST_NATIVE_CHECK_H_
