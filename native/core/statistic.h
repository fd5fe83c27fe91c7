// What one (batch, group) is normalized by: how it follows from moments, and the coefficients that kernels take.
//
// Shared with ISA code, so everything has internal linkage (see moments.h).
#ifndef SIMDNORM_CORE_STATISTIC_H_
#define SIMDNORM_CORE_STATISTIC_H_

#include "native/core/moments.h"

namespace simdnorm {

// Also the record kept for backward, five doubles. mean + rest is the mean: `mean` is exact in the tensor's type, so
// that x - mean loses nothing to it. All of it is of data times `scale`, a power of two, 1 but for float64 data whose
// squares no double holds.
struct Statistic {
  double mean, rest, var, rstd, scale;
};

// How a statistic is taken.
struct Rule {
  double eps;
  About about;
  // BatchNorm and InstanceNorm: with eps 0, constant data give bias. The others give NaN, as 0 / 0 does.
  bool zero_var_is_zero;
};

// Over one statistic or channel: sums of dy and of dy * xHat.
struct GradSums {
  double dy, dy_xhat;
};

// Static, where the rest is in a namespace without a name: Cascade finds it by its argument.
static inline void merge(GradSums& a, const GradSums& b) {
  a.dy += b.dy;
  a.dy_xhat += b.dy_xhat;
}

// dx = h * dy_factor + xHat * x_factor + constant
struct Line {
  double dy_factor, x_factor, constant;
};

// xHat = (x - center) * scale + shift, and y = xHat * weight + bias where there are any.
template <class T>
struct Affine {
  T center, scale, shift;
};

// dx = dy * dy_factor + (x - center) * x_factor + constant
template <class T>
struct Slope {
  T center, dy_factor, x_factor, constant;
};

namespace {

inline double rstd_of(double var, double eps, const Rule& rule) {
  if (rule.zero_var_is_zero && var == 0 && eps == 0) return 0;
  return 1 / __builtin_sqrt(var + eps);
}

template <class T>
inline Statistic statistic_of_moments(const Moments& m, const Rule& rule) {
  Statistic s;
  s.mean = static_cast<double>(static_cast<T>(m.mean));
  s.rest = __builtin_isfinite(s.mean) ? (m.mean - s.mean) + m.mean_low : 0;
  s.var = (m.m2 + m.m2_low) / m.count;
  s.rstd = rstd_of(s.var, rule.eps, rule);
  s.scale = 1;
  return s;
}

// Whether the kernels' arithmetic in T could overflow or lose digits around this statistic, which n values came to:
// then the ops go through that data in double.
template <class T>
inline bool extreme(const Statistic& s, double n);
template <>
inline bool extreme<double>(const Statistic& s, double) {
  return s.scale != 1;
}
template <>
inline bool extreme<float>(const Statistic& s, double n) {
  // |x - mean| <= sqrt(M2) for statistics of x itself, so 2^125 is never passed unless M2 passes 2^250; running ones
  // say nothing of x, but x - mean stays in range where the mean is small beside the largest float. The slope of dx has
  // the square of rstd.
  return s.var * n > 0x1p250 || __builtin_fabs(s.mean) > 0x1p102 || s.rstd > 0x1p50 || (s.rstd > 0 && s.rstd < 0x1p-50);
}

// From the sums of h and h * xHat over the n values of one statistic.
inline Line line_of(const Statistic& s, About about, double n, GradSums h) {
  return {s.rstd, -(s.rstd * (h.dy_xhat / n)), about == About::kZero ? 0 : -(s.rstd * (h.dy / n))};
}

// xHat * weight + bias, as the kernels take it.
template <class T>
inline Affine<T> folded(const Statistic& s, T weight, T bias) {
  const double scale = s.rstd * static_cast<double>(weight);
  return {static_cast<T>(s.mean), static_cast<T>(scale), static_cast<T>(static_cast<double>(bias) - s.rest * scale)};
}

// The line through dy * weight and x - center.
template <class T>
inline Slope<T> slope_of(const Statistic& s, const Line& f, double weight) {
  const double x_factor = s.rstd * f.x_factor;
  return {static_cast<T>(s.mean), static_cast<T>(f.dy_factor * weight), static_cast<T>(x_factor),
          static_cast<T>(f.constant - s.rest * x_factor)};
}

}  // namespace
}  // namespace simdnorm

#endif  // SIMDNORM_CORE_STATISTIC_H_
