// Whole rows, each with its own statistic and a weight for each element: LayerNorm and RMSNorm. See kernels-inl.h.
//
// Forward, a row is read before the row above it is written: otherwise the way from a row's last addition to its first
// product, through a tree of sums, a division and a root, would be waited for in every row. Backward, that gains
// nothing (docs/performance.md). Rows of at most four vectors go sixteen at a time, with a lane for each in all that
// happens once a row.
#include <float.h>
#include <stddef.h>

#include "native/kernels/kernels.h"

namespace simdnorm {
namespace SIMDNORM_ISA {
namespace {

constexpr size_t kFew = 4 * kLanes;  // elements of a row that is one of sixteen
constexpr size_t kTile = kLanes;     // such rows

// The mean is a number, and the arithmetic in T holds: NaN fails each of these.
template <class T>
inline bool plain(const Statistic& s, double n) {
  const double limit = sizeof(T) == sizeof(float) ? 0x1p50 : 0x1p450, most = limit * limit;
  return s.scale == 1 && s.rstd < limit && s.rstd > 1 / limit && __builtin_fabs(s.mean) < most &&
         s.var * n < most * most;
}

// xHat
template <class T>
inline Affine<T> x_hat_of(const Statistic& s) {
  return folded(s, T(1), T(0));
}

// With what is done with them.
template <class T>
struct Parameters : ParameterSums<T> {
  void drain(size_t n) const {
    drain_into(this->dy, this->lanes_dy, n);
    drain_into(this->dy_xhat, this->lanes_dy_xhat, n);
  }
};

template <class S>
inline Finish<S> at_row(Finish<S> finish, size_t at) {
  return {finish.add ? finish.add + at : nullptr, finish.relu};
}

// ---- rows of more than kFew elements: one after the other ----

// How far ahead sums fetch: not at all inside the caches.
inline size_t ahead_of(Stores stores) { return stores == Stores::kCached ? 0 : kAhead; }

template <class S>
inline size_t normalize_long(S* y, const S* x, Rows rows, const Rule& rule, const Value<S>* weight,
                             const Value<S>* bias, Finish<S> finish, Statistic* saved, size_t saved_stride,
                             Stores stores) {
  using T = Value<S>;
  const double n = static_cast<double>(rows.n);
  const auto statistic = [&](size_t row) {
    const bool tiny_matters = rule.eps < kLeastEps;
    return statistic_of_moments<T>(
        moments_of(x + row * rows.stride, 0, 1, rows.n, rule.about, tiny_matters, ahead_of(stores)), rule);
  };
  Statistic next = statistic(0);
  for (size_t row = 0; row < rows.count; row++) {
    const Statistic s = next;
    if (!plain<T>(s, n)) return row;
    if (row + 1 < rows.count) next = statistic(row + 1);
    if (saved) saved[row * saved_stride] = s;
    const size_t at = row * rows.stride;
    apply_to_row(y + at, x + at, rows.n, x_hat_of<T>(s), weight, bias, at_row(finish, at), stores, 0);
  }
  return rows.count;
}

// Two functions, as to ask for every vector whether to fetch takes 1.08 times as long inside the caches.
template <size_t ahead, class S>
__attribute__((noinline)) SIMDNORM_KERNEL size_t backward_long(S* dx, const S* dy, const S* x, Rows rows, About about,
                                                               const Value<S>* weight, const Statistic* saved,
                                                               size_t saved_stride, Parameters<Value<S>> sums,
                                                               Stores stores) {
  using T = Value<S>;
  const double n = static_cast<double>(rows.n);
  for (size_t row = 0; row < rows.count; row++) {
    const Statistic& s = saved[row * saved_stride];
    if (!plain<T>(s, n)) {
      sums.drain(rows.n);
      return row;
    }
    const size_t at = row * rows.stride;
    const GradSums h =
        sums_of_row(dy + at, x + at, rows.n, x_hat_of<T>(s), weight, sums.lanes_dy, sums.lanes_dy_xhat, ahead);
    if (dx) {
      slope_of_row(dx + at, dy + at, x + at, rows.n, slope_of<T>(s, line_of(s, about, n, h), 1), weight, stores,
                   rows.n > 1024 ? rows.stride : 0);
    }
    if (row + 1 == rows.count || (row + 1) % kFloatChain == 0) sums.drain(rows.n);
  }
  return rows.count;
}

// ---- short rows: a tile of them at a time, in float ----

// body(k, at, lanes) for each vector of a short row.
template <class Body>
inline void each_part(size_t n, Body body) {
  size_t at = 0;
  for (; at + kLanes < n; at += kLanes) body(at, All{});
  body(at, first_lanes(n - at));
}

// term(row, at, lanes) gives a pair of terms; their sums over each row, a lane for each.
template <class F>
inline Terms<float> sum_rows(size_t count, size_t n, F term) {
  Vec<float> a[kTile], b[kTile];
  for (size_t row = 0; row < count; row++) {
    Terms<float> own;
    each_part(n, [&](size_t at, auto lanes) {
      const Terms<float> t = term(row, at, lanes);
      own.a = own.a + t.a;
      own.b = own.b + t.b;
    });
    a[row] = own.a;
    b[row] = own.b;
  }
  return {sums(a), sums(b)};
}

struct TileStatistics {
  Vec<double> mean, rest, var, rstd;
  size_t plain;  // how many from the first on
};

template <class S>
inline TileStatistics statistics_of_tile(const S* x, Rows rows, const Rule& rule) {
  const Vec<double> n(static_cast<double>(rows.n));
  const bool centered = rule.about == About::kMean;
  float center[kLanes] = {};
  if (centered) {
    float first[kLanes] = {};
    for (size_t row = 0; row < rows.count; row++) first[row] = value_of(x[row * rows.stride]);
    const Vec<float> distance = sum_rows(rows.count, rows.n, [&](size_t row, size_t at, auto lanes) {
                                  const Vec<float> v = load(x + row * rows.stride + at, lanes);
                                  return Terms<float>{keep(v - Vec<float>(first[row]), lanes), Vec<float>()};
                                }).a;
    (Vec<float>::load(first) + distance / Vec<float>(static_cast<float>(rows.n))).store(center);
  }
  const Terms<float> s = sum_rows(rows.count, rows.n, [&](size_t row, size_t at, auto lanes) {
    const Vec<float> v = load(x + row * rows.stride + at, lanes);
    const Vec<float> d = centered ? keep(v - Vec<float>(center[row]), lanes) : v;
    return Terms<float>{d, d * d};
  });
  const Vec<double> squares = widen(s.b), limit(0x1p50);
  const double vanishing = rule.eps < kLeastEps ? 0 : kTinySquare;
  TileStatistics out;
  Vec<double> m2 = squares, trusted = squares;
  if (centered) {
    const Vec<double> sum = widen(s.a), offset = sum / n;
    Vec<double> low;
    const Vec<double> mean = two_sum(widen(Vec<float>::load(center)), offset, low);
    m2 = at_least(squares - sum * offset, Vec<double>());
    out.mean = widen(narrow(mean));
    out.rest = (mean - out.mean) + low;
    trusted = sum * offset * Vec<double>(4) - n * Vec<double>(vanishing);  // shift_holds
  }
  out.var = m2 / n;
  out.rstd = Vec<double>(1) / square_root(out.var + Vec<double>(rule.eps));
  const uint32_t plain = at_most(squares, Vec<double>(FLT_MAX)) &
                         at_most(n * Vec<double>(kTinySquare - vanishing), squares) & at_most(trusted, squares) &
                         at_most(out.mean * out.mean, Vec<double>(0x1p200)) & at_most(out.rstd, limit) &
                         at_most(Vec<double>(1) / limit, out.rstd);
  out.plain = least(rows.count, static_cast<size_t>(__builtin_ctz(~plain)));
  return out;
}

template <class S>
inline size_t normalize_tile(S* y, const S* x, Rows rows, const Rule& rule, const float* weight, const float* bias,
                             Finish<S> finish, Statistic* saved, size_t saved_stride) {
  const TileStatistics s = statistics_of_tile(x, rows, rule);
  float center[kLanes], scale[kLanes], shift[kLanes];
  narrow(s.mean).store(center);
  narrow(s.rstd).store(scale);
  narrow(Vec<double>() - s.rest * s.rstd).store(shift);
  if (saved) {
    double mean[kLanes], rest[kLanes], var[kLanes], rstd[kLanes];
    s.mean.store(mean);
    s.rest.store(rest);
    s.var.store(var);
    s.rstd.store(rstd);
    for (size_t row = 0; row < s.plain; row++) {
      saved[row * saved_stride] = {mean[row], rest[row], var[row], rstd[row], 1};
    }
  }
  for (size_t row = 0; row < s.plain; row++) {
    const size_t at = row * rows.stride;
    const Affine<float> f = {center[row], scale[row], shift[row]};
    apply_to_row(y + at, x + at, rows.n, f, weight, bias, at_row(finish, at), Stores::kCached, 0);
  }
  return s.plain;
}

template <class S>
inline size_t backward_tile(S* dx, const S* dy, const S* x, Rows rows, About about, const float* weight,
                            const Statistic* saved, size_t saved_stride, Parameters<float> sums) {
  const double n = static_cast<double>(rows.n);
  Affine<float> f[kTile];
  size_t count = 0;
  for (; count < rows.count && plain<float>(saved[count * saved_stride], n); count++) {
    f[count] = x_hat_of<float>(saved[count * saved_stride]);
  }
  const Terms<float> s = sum_rows(count, rows.n, [&](size_t row, size_t at, auto lanes) {
    const size_t i = row * rows.stride + at;
    const Vec<float> center(f[row].center), scale(f[row].scale), shift(f[row].shift);
    const Vec<float> g = load(dy + i, lanes);
    const Vec<float> x_hat = keep((load(x + i, lanes) - center) * scale + shift, lanes);
    if (sums.lanes_dy) add_to(sums.lanes_dy + at, g, lanes);
    if (sums.lanes_dy_xhat) add_to(sums.lanes_dy_xhat + at, g * x_hat, lanes);
    const Vec<float> h = weight ? g * load(weight + at, lanes) : g;
    return Terms<float>{h, h * x_hat};
  });
  sums.drain(rows.n);
  float of_h[kLanes], of_h_xhat[kLanes];
  s.a.store(of_h);
  s.b.store(of_h_xhat);
  for (size_t row = 0; dx && row < count; row++) {
    const Statistic& own = saved[row * saved_stride];
    const Line line = line_of(own, about, n, {static_cast<double>(of_h[row]), static_cast<double>(of_h_xhat[row])});
    const size_t at = row * rows.stride;
    slope_of_row(dx + at, dy + at, x + at, rows.n, slope_of<float>(own, line, 1), weight, Stores::kCached, 0);
  }
  return count;
}

// f(first, count) for each tile, until one is not done whole; returns how many rows are done.
template <class F>
inline size_t each_tile(size_t rows, F f) {
  for (size_t row = 0; row < rows; row += kTile) {
    const size_t count = least(kTile, rows - row), done = f(row, count);
    if (done < count) return row + done;
  }
  return rows;
}

// ---- the kernels ----

template <class S>
SIMDNORM_KERNEL size_t normalize_rows(S* y, const S* x, Rows rows, const Rule& rule, const Value<S>* weight,
                                      const Value<S>* bias, Finish<S> finish, Statistic* saved, size_t saved_stride,
                                      Stores stores) {
  if constexpr (sizeof(Value<S>) == sizeof(float)) {
    if (rows.n <= kFew) {
      return each_tile(rows.count, [&](size_t row, size_t count) {
        const size_t at = row * rows.stride;
        return normalize_tile(y + at, x + at, {count, rows.n, rows.stride}, rule, weight, bias, at_row(finish, at),
                              saved ? saved + row * saved_stride : nullptr, saved_stride);
      });
    }
  }
  const size_t done = normalize_long(y, x, rows, rule, weight, bias, finish, saved, saved_stride, stores);
  after(stores);
  return done;
}

template <class S>
SIMDNORM_KERNEL size_t backward_rows(S* dx, const S* dy, const S* x, Rows rows, About about, const Value<S>* weight,
                                     const Statistic* saved, size_t saved_stride, ParameterSums<Value<S>> sums,
                                     Stores stores) {
  const Parameters<Value<S>> own = {sums};
  if constexpr (sizeof(Value<S>) == sizeof(float)) {
    if (rows.n <= kFew) {
      return each_tile(rows.count, [&](size_t row, size_t count) {
        const size_t at = row * rows.stride;
        return backward_tile(dx ? dx + at : nullptr, dy + at, x + at, {count, rows.n, rows.stride}, about, weight,
                             saved + row * saved_stride, saved_stride, own);
      });
    }
  }
  const auto rows_by = stores == Stores::kCached ? backward_long<0, S> : backward_long<kAhead, S>;
  const size_t done = rows_by(dx, dy, x, rows, about, weight, saved, saved_stride, own, stores);
  after(stores);
  return done;
}

}  // namespace
}  // namespace SIMDNORM_ISA
}  // namespace simdnorm
