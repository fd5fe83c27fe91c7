// Numbers of twice a double's precision, high + low, and their arithmetic (Dekker 1971), within 2^-100 or so. Like
// everything in core with internal linkage; see moments.h.
#ifndef SIMDNORM_CORE_TWICE_H_
#define SIMDNORM_CORE_TWICE_H_

#include "native/core/moments.h"

namespace simdnorm {

struct Twice {
  double high, low;
};

namespace {

// An infinite or NaN high has no low: what was left of it means nothing.
inline Twice settled(double high, double low) {
  Twice t;
  t.high = two_sum(high, low, t.low);
  return __builtin_isfinite(t.high) ? t : Twice{high, 0};
}

// a * b exactly, where neither is beyond 1e300 and the product not below 1e-290.
inline Twice product(double a, double b) {
  constexpr double kSplit = 0x1p27 + 1;
  const double as = a * kSplit, bs = b * kSplit;
  const double a1 = as - (as - a), a2 = a - a1, b1 = bs - (bs - b), b2 = b - b1;
  const double high = a * b;
  const double low = ((a1 * b1 - high) + a1 * b2 + a2 * b1) + a2 * b2;
  return {high, __builtin_isfinite(low) ? low : 0};
}

inline Twice operator-(Twice a) { return {-a.high, -a.low}; }
inline Twice operator+(Twice a, Twice b) {
  double low, rest;
  const double high = two_sum(a.high, b.high, low);
  const double lower = two_sum(a.low, b.low, rest);
  const Twice sum = settled(high, low + lower);
  return settled(sum.high, sum.low + rest);
}
inline Twice operator-(Twice a, Twice b) { return a + -b; }
inline Twice operator*(Twice a, Twice b) {
  const Twice p = product(a.high, b.high);
  return settled(p.high, p.low + (a.high * b.low + a.low * b.high));
}
inline Twice operator/(Twice a, Twice b) {
  const double quotient = a.high / b.high;
  const Twice rest = a - Twice{quotient, 0} * b;
  return settled(quotient, rest.high / b.high);
}

}  // namespace
}  // namespace simdnorm

#endif  // SIMDNORM_CORE_TWICE_H_
