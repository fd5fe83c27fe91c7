// s^beta on the lanes, without libm: every ISA gives the same bits. See kernels-inl.h.
//
//   s = 2^e * m, m from sqrt(1/2) to sqrt(2)
//   ln m = 2 atanh z = 2z + 2/3 z^3 + 2/5 z^5 + ...        z = (m - 1) / (m + 1), |z| <= 0.1716
//   s^beta = exp(beta * ln s) = 2^n * exp(r)                |r| <= ln(2) / 2
//
// ln s is a pair high + low: 2z is held to twice the precision, and what is left of the series, at most 2^-6.6 of it,
// is rounded at most two and a half times: ln s is within 2^-58 of itself, beta * ln s within |beta ln s| * 2^-58. exp
// adds less than 2^-52. So the power is within 2^-52 + |beta ln s| * 2^-58 of itself: one unit in the last place where
// beta * ln s is ordinary, 3e-15 at the ends of the range (test/native/kernels_test.cc measures it). A result below
// 2^-1022 is rounded once more, as denormals are.
#include <stddef.h>
#include <stdint.h>

#include "native/core/moments.h"

namespace simdnorm {
namespace SIMDNORM_ISA {
namespace {

// One register of doubles, and the same bits as integers (vector extensions of gcc and clang).
using Doubles = Reg<double>::Type;
typedef uint64_t Words __attribute__((vector_size(sizeof(Doubles))));

inline Words words(Doubles v) { return reinterpret_cast<Words>(v); }
template <class V>
inline Doubles doubles(V v) {
  return reinterpret_cast<Doubles>(v);
}
inline Doubles fill(double s) { return Reg<double>::fill(s); }
inline Words fill_words(uint64_t w) {
  Words v;
  for (size_t i = 0; i < Reg<double>::kLanes; i++) v[i] = w;
  return v;
}
// a where the mask is all ones, b where it is 0.
template <class M>
inline Doubles choose(M mask, Doubles a, Doubles b) {
  const Words m = reinterpret_cast<Words>(mask);
  return doubles((m & words(a)) | (~m & words(b)));
}

// a * b = high + low exactly, without a fused multiply-add (Dekker 1971, Veltkamp); a and b below 2^970.
inline Doubles two_product(Doubles a, Doubles b, Doubles& low) {
  const Doubles splitter = fill(0x1p27 + 1);
  const Doubles a_part = a * splitter, b_part = b * splitter;
  const Doubles a_high = a_part - (a_part - a), b_high = b_part - (b_part - b);
  const Doubles a_low = a - a_high, b_low = b - b_high;
  const Doubles high = a * b;
  low = ((a_high * b_high - high) + a_high * b_low + a_low * b_high) + a_low * b_low;
  return high;
}

constexpr uint64_t kOne = 0x3ff0000000000000, kRootHalf = 0x3fe6a09e667f3bcd, kFraction = 0x000fffffffffffff;
constexpr uint64_t kSign = 0x8000000000000000;
constexpr double kInfinity = __builtin_inf(), kLeastNormal = 0x1p-1022;
// ln 2 = high + low; n * high is exact for n below 2^21.
constexpr double kLn2High = 0x1.62e42feep-1, kLn2Low = 0x1.a39ef35793c76p-33;

// ln s = the result + low, for finite s > 0.
inline Doubles logarithm(Doubles s, Doubles& low) {
  const auto denormal = s < fill(kLeastNormal);
  s = choose(denormal, s * fill(0x1p54), s);
  const Words shifted = words(s) + fill_words(kOne - kRootHalf);
  // The exponent, as a double: written into the last bits of 2^52.
  const Doubles biased = doubles((shifted >> 52) | words(fill(0x1p52))) - fill(0x1p52);
  const Doubles e = biased - choose(denormal, fill(1023 + 54), fill(1023));
  const Doubles m = doubles((shifted & fill_words(kFraction)) + fill_words(kRootHalf));

  const Doubles f = m - fill(1), d = m + fill(1), d_low = m - (d - fill(1)), inverse = fill(1) / d;
  const Doubles z = f * inverse;
  Doubles product_low, sum_low;
  const Doubles product = two_product(z, d, product_low);
  const Doubles z_low = (((f - product) - product_low) - z * d_low) * inverse;

  const Doubles zz = z * z;
  Doubles series = fill(2.0 / 25);
  for (int k = 23; k >= 3; k -= 2) series = series * zz + fill(2.0 / k);
  const Doubles tail = z_low * (fill(2) + fill(2) * zz) + z * zz * series;

  const Doubles high = two_sum<Doubles>(e * fill(kLn2High), fill(2) * z, sum_low);
  const Doubles rest = sum_low + (e * fill(kLn2Low) + tail);
  const Doubles sum = high + rest;
  low = rest - (sum - high);
  return sum;
}

// exp(high + low); 0 and infinity beyond the range.
inline Doubles exponential(Doubles high, Doubles low) {
  const auto above = high > fill(800), below = high < fill(-800);
  low = choose(above, fill(0), choose(below, fill(0), low));
  high = choose(above, fill(800), choose(below, fill(-800), high));

  // n, rounded to an integer, stands in the last bits of a number of this size.
  const Doubles round = fill(0x1.8p52);
  const Doubles n_shifted = high * fill(1 / (kLn2High + kLn2Low)) + round;
  const Doubles n = n_shifted - round;
  const Doubles part = high - n * fill(kLn2High), part_low = low - n * fill(kLn2Low);
  const Doubles r = part + part_low, r_low = part_low - (r - part);

  // 1/2! + r/3! + ... + r^12/14!
  double factorial = 87178291200;
  Doubles series = fill(1 / factorial);
  for (int k = 14; k > 2; k--) series = series * r + fill(1 / (factorial /= k));
  const Doubles value = fill(1) + (r + (r * r * series + r_low));

  // 2^n in two factors, because 2^n itself may be beyond the range where value * 2^n is not.
  const Words n_word = words(n_shifted) - words(round);
  const Words half = ((n_word + fill_words(4096)) >> 1) - fill_words(2048);
  const auto power_of_two = [](Words k) { return doubles((k + fill_words(1023)) << 52); };
  return value * power_of_two(half) * power_of_two(n_word - half);
}

// What a general exponent is to all lanes. Beyond 2^70 every power of a number other than 1 is 0 or infinite already.
struct Exponent {
  double value, at_zero, at_infinity;
  bool integer, odd;

  explicit Exponent(double beta) {
    const double limit = 0x1p70;
    value = beta > limit ? limit : beta < -limit ? -limit : beta;
    at_zero = beta > 0 ? 0 : kInfinity;
    at_infinity = beta > 0 ? kInfinity : 0;
    const bool large = beta >= 0x1p53 || beta <= -0x1p53;  // where all are even
    const int64_t whole = large ? 0 : static_cast<int64_t>(beta);
    integer = large || static_cast<double>(whole) == beta;
    odd = integer && (whole & 1) != 0;
  }
};

// C's pow(s, beta) for a beta other than 0.
inline Doubles power(Doubles s, const Exponent& beta) {
  const Doubles size = doubles(words(s) & ~fill_words(kSign));
  Doubles log_low, low;
  const Doubles log = logarithm(size, log_low);
  const Doubles high = two_product(log, fill(beta.value), low);
  Doubles result = exponential(high, low + log_low * fill(beta.value));
  result = choose(size == fill(0), fill(beta.at_zero), result);
  result = choose(size == fill(kInfinity), fill(beta.at_infinity), result);
  if (beta.odd) {
    result = doubles(words(result) | (words(s) & fill_words(kSign)));
  } else if (!beta.integer) {
    const auto negative = s < fill(0);
    const auto finite = size < fill(kInfinity);
    result = choose(negative & finite, fill(__builtin_nan("")), result);
  }
  return choose(s == s, result, s);
}

// d = s^beta, n a multiple of kLanes. One copy for all kernels, because inlined into each (SIMDNORM_KERNEL) it would be
// most of the object file.
__attribute__((noinline)) void raise(double* d, const double* s, size_t n, double beta) {
  const Exponent exponent(beta);
#pragma GCC unroll 1
  for (size_t i = 0; i < n; i += Reg<double>::kLanes) {
    Reg<double>::store(d + i, power(Reg<double>::load(s + i), exponent));
  }
}

// ---- a / s^0.75 for floats, by products alone ----
//
// Two roots and a division of doubles take a core's divider 9 ns for 16 elements (AVX-512), all of the time of such a
// kernel. Here the exponent and fraction of s, read as one integer and scaled by -3/4, give r with q = r^4 s^3 within
// 16 % of kMiddle. A minimax cubic in q makes of it r, times a constant, within 8e-6, in float. One step of Newton's in
// double, r * (kStep - r^4 s^3), squares that: within 2^-33 of s^-0.75, a 500th of the rounding to float that follows
// (local_response_test goes through all the floats of four octaves: the pattern repeats).

using Floats = Reg<float>::Type;
typedef uint32_t FloatBits __attribute__((vector_size(sizeof(Floats))));

inline Vec<float> estimate(Vec<float> s) {
  for (Floats& r : s.r) {
    const FloatBits bits = reinterpret_cast<FloatBits>(r);
    r = reinterpret_cast<Floats>(0x6eecf400 - bits + (bits >> 2));
  }
  return s;
}

// r^4 s^3 = 1 for r = s^-0.75; in this order nothing overflows, whatever s is.
template <class T>
inline Vec<T> fourth_by_cube(Vec<T> r, Vec<T> s) {
  const Vec<T> root = r * s;
  return (root * root) * (root * r);
}

// A constant times s^-0.75, within 8e-6, in the lanes whose bits are set in `good`. The others are zero, negative, not
// finite or not of a float's size.
inline Vec<float> rough_power(Vec<float> s, uint32_t& good) {
  constexpr float kMiddle = 0.43321f, kReach = 0x1.4p-8f;
  const Vec<float> r = estimate(s);
  const Vec<float> h = fourth_by_cube(r, s) - Vec<float>(kMiddle), hh = h * h;
  good = at_most(hh, Vec<float>(kReach));
  return r * ((Vec<float>(0x1.de471ap-1f) - Vec<float>(0x1.13fd14p-1f) * h) +
              hh * (Vec<float>(0x1.943e5ap-1f) - Vec<float>(0x1.60bf70p+0f) * h));
}

// a / s^0.75 from it.
constexpr double kStep = 1.6493848885545024;
inline Vec<double> over_root_of_cube(Vec<double> a, Vec<double> s, Vec<double> rough) {
  return (a * rough) * (Vec<double>(kStep) - fourth_by_cube(rough, s));
}

// For the other lanes by roots and a division: what over_root_of_cube makes the quotient of, in `rough` and `s`.
__attribute__((noinline, cold)) void mend(double* rough, double* s, size_t n) {
  for (size_t i = 0; i < n; i++) {
    uint32_t good;
    rough_power(Vec<float>(static_cast<float>(s[i])), good);
    if (good) continue;
    const double root = __builtin_sqrt(s[i]);
    rough[i] = 1 / (root * __builtin_sqrt(root)) / kStep;
    // a * rough is multiplied by kStep, or, where rough is infinite, by infinity.
    s[i] = s[i] == 0 ? -1 : 0;
  }
}

}  // namespace
}  // namespace SIMDNORM_ISA
}  // namespace simdnorm
