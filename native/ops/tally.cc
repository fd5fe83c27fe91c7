#include "native/ops/tally.h"

#include <math.h>

#include "native/parallel/float_environment.h"
#include "native/parallel/thread_pool.h"

namespace simdnorm {
namespace {

constexpr size_t kTallyUnit = 8192;  // rows at most that one thread reads: what follows them costs as much as 400 rows
constexpr Tally kEmpty = {{0, 0}, {0, 0}, {0, 0}, INFINITY, -INFINITY, 0};

// The sums of the weights w, of w * (x - center) and of w * (x - center)^2.
struct WeightedSums {
  Twice weight, sum, squares;
};

Tally tally_of(double center, const WeightedSums& s, double min, double max, double missing) {
  if (s.weight.high == 0) {
    Tally none = kEmpty;
    none.missing = missing;
    return none;
  }
  const Twice offset = s.sum / s.weight;
  // A zero is +0 there, whichever of them came first.
  Tally t = {s.weight, Twice{center, 0} + offset, s.squares - s.sum * offset, min + 0.0, max + 0.0, missing};
  if (t.m2.high < 0) t.m2 = {0, 0};
  if (!isfinite(s.sum.high)) t.m2 = {NAN, 0};
  return t;
}

Tally tally_of(const Deviations<double>& d, double count) {
  const WeightedSums sums = {{count, 0}, settled(d.sum, d.sum_low), settled(d.squares, d.squares_low)};
  return tally_of(d.center, sums, d.min, d.max, 0);
}

// Whether the center was so near to the mean that M2, a difference, has three quarters of the sum of squares, and
// nearly all of its digits; false for data with a NaN or an infinity. (The square of the sum alone might overflow.)
bool holds(const Deviations<double>& d, double count) {
  return isfinite(d.sum) && d.sum * (d.sum / count) <= d.squares * 0.25;
}

// The mean in the precision of T, to be counted from.
template <class T>
double center_at(double mean) {
  const double center = static_cast<double>(static_cast<T>(mean));
  return isfinite(center) ? center : 0;
}
template <class T>
double own_center(const Deviations<double>& d, double count) {
  return center_at<T>(d.center + d.sum / count);
}

// The careful way: value by value, with weights and missing values, about the column's own mean.
class Careful {
 public:
  void add(double x, double weight) {
    if (isnan(x)) {
      missing_ += 1;
      return;
    }
    if (sums_.weight.high == 0) {
      if (!again_ && isfinite(x)) center_ = x;
      min_ = max_ = x;
    }
    min_ = x < min_ ? x : min_;
    max_ = x > max_ ? x : max_;
    const double d = x - center_;
    exactly(sums_.weight, weight);
    exactly(sums_.sum, weight * d);
    exactly(sums_.squares, weight * d * d);
  }
  // For the same values once more, counted from their mean in the precision of T.
  template <class T>
  void settle() {
    const double mean = finish().mean.high;
    *this = Careful();
    again_ = true;
    center_ = center_at<T>(mean);
  }
  Tally finish() const {
    const WeightedSums s = {sums_.weight, settled(sums_.sum.high, sums_.sum.low),
                            settled(sums_.squares.high, sums_.squares.low)};
    return tally_of(center_, s, min_, max_, missing_);
  }

 private:
  static void exactly(Twice& t, double term) {
    double rest;
    t.high = two_sum(t.high, term, rest);
    t.low += rest;
  }
  WeightedSums sums_ = {{0, 0}, {0, 0}, {0, 0}};
  double center_ = 0, min_ = 0, max_ = 0, missing_ = 0;
  bool again_ = false;
};

// Each column of rows where `which` says so, into out[j].
template <class S>
void tally_with_care(const S* x, Rows rows, const double* weights, const bool* which, Tally* out) {
  Careful columns[kVector];
  for (size_t first = 0; first < rows.n; first += kVector) {
    const size_t n = at_most(kVector, rows.n - first);
    bool any = false;
    for (size_t j = 0; j < n; j++) {
      columns[j] = Careful();
      any = any || which[first + j];
    }
    if (!any) continue;
    for (int pass = 0; pass < 2; pass++) {
      for (size_t row = 0; row < rows.count; row++) {
        const double weight = weights ? weights[row] : 1;
        if (weight == 0) continue;
        const S* const p = x + row * rows.stride + first;
        for (size_t j = 0; j < n; j++) {
          if (which[first + j]) columns[j].add(wide(p[j]), weight);
        }
      }
      for (size_t j = 0; pass == 0 && j < n; j++) columns[j].template settle<Value<S>>();
    }
    for (size_t j = 0; j < n; j++) {
      if (which[first + j]) out[first + j] = columns[j].finish();
    }
  }
}

// Stretches of one channel, as one column.
template <class S>
Tally tally_with_care(const S* x, Rows pieces, const double* weights) {
  Careful all;
  for (int pass = 0; pass < 2; pass++) {
    for (size_t i = 0; i < pieces.count * pieces.n; i++) {
      const double weight = weights ? weights[i] : 1;
      if (weight != 0) all.add(wide(x[i / pieces.n * pieces.stride + i % pieces.n]), weight);
    }
    if (pass == 0) all.settle<Value<S>>();
  }
  return all.finish();
}

// At most kTallyColumns columns; what does not hold is taken again, each column for itself.
template <class S>
void tally_tile(const Tallies<S>& k, const S* x, Rows rows, const double* weights, Tally* out) {
  constexpr size_t kParts = 7;
  const double count = static_cast<double>(rows.count);
  bool careful[kTallyColumns];
  for (size_t j = 0; j < rows.n; j++) careful[j] = true;
  if (!weights) {
    double all[kParts][kTallyColumns];
    const auto take = [&](size_t j, size_t n, const double* center) {
      k.columns(x + j, {rows.count, n, rows.stride}, center,
                {all[0] + j, all[1] + j, all[2] + j, all[3] + j, all[4] + j, all[5] + j, all[6] + j});
    };
    const auto at = [&](size_t j) {
      return Deviations<double>{all[0][j], all[1][j], all[2][j], all[3][j], all[4][j], all[5][j], all[6][j]};
    };
    take(0, rows.n, nullptr);
    for (size_t first = 0; first < rows.n; first += kVector) {
      const size_t n = at_most(kVector, rows.n - first);
      double center[kVector];
      size_t again = 0;  // a bit for each column
      for (size_t i = 0; i < n; i++) {
        const Deviations<double> d = at(first + i);
        center[i] = 0;
        careful[first + i] = !isfinite(d.sum);
        if (holds(d, count)) {
          out[first + i] = tally_of(d, count);
        } else if (isfinite(d.sum)) {
          again |= size_t(1) << i;
          center[i] = own_center<Value<S>>(d, count);
        }
      }
      if (again == 0) continue;
      take(first, n, center);
      for (size_t i = 0; i < n; i++) {
        if (again >> i & 1) out[first + i] = tally_of(at(first + i), count);
      }
    }
  }
  tally_with_care(x, rows, weights, careful, out);
}

constexpr size_t kMerges = 256;  // one thread does at once

// parts[unit * each + i], merged over the units in a fixed binary tree into parts[i].
void merge_units(Tally* parts, size_t units, size_t each, const parallel::Team& team) {
  team.for_each(each, kMerges, [&](size_t from, size_t to, size_t) {
    for (size_t step = 1; step < units; step *= 2) {
      for (size_t u = 0; u + step < units; u += 2 * step) {
        for (size_t i = from; i < to; i++) merge(parts[u * each + i], parts[(u + step) * each + i]);
      }
    }
  });
}

size_t gcd(size_t a, size_t b) { return b == 0 ? a : gcd(b, a % b); }

// Channels side by side. Several rows of few channels are read as one of many, so that no vector is half empty.
template <class S>
Status tally_columns(const Tallies<S>& k, const Samples& s, const S* x, const double* weights, Tally* state) {
  const bool narrow = !weights && s.stride < 4 * kVector;
  const size_t together = narrow ? kVector / gcd(kVector, s.stride) : 1;
  const size_t cols = (together - 1) * s.stride + s.channels;
  const size_t rows = s.outer / together, rest = s.outer % together;
  const ColumnBlocks blocks(rows, kTallyUnit / 4, kTallyUnit);
  const size_t units = rows > 0 ? blocks.units() : 0, tiles = ceil_div(cols, kTallyColumns);
  const Scratch<Tally> parts((units + (rest > 0 ? 1 : 0)) * cols);
  if (!parts.ok()) return Status::kOutOfMemory;
  const size_t stride = together * s.stride;
  const parallel::Team team(s.outer * s.channels * sizeof(S) < kAloneBytes);
  team.for_each(units * tiles, 1, [&](size_t from, size_t to, size_t) {
    for (size_t i = from; i < to; i++) {
      const size_t u = i / tiles, j = i % tiles * kTallyColumns, row = blocks.first(u);
      tally_tile(k, x + row * stride + j, {blocks.rows(u), at_most(kTallyColumns, cols - j), stride},
                 weights ? weights + row : nullptr, parts.get() + u * cols + j);
    }
  });
  merge_units(parts.get(), units, cols, team);
  Tally* const total = parts.get();
  Tally* const last = parts.get() + units * cols;
  if (rest > 0) tally_tile(k, x + rows * stride, {rest, s.channels, s.stride}, nullptr, last);
  team.for_each(s.channels, kMerges, [&](size_t from, size_t to, size_t) {
    for (size_t c = from; c < to; c++) {
      Tally all = kEmpty;
      for (size_t p = 0; units > 0 && p < together; p++) merge(all, total[p * s.stride + c]);
      if (rest > 0) merge(all, last[c]);
      merge(state[c], all);
    }
  });
  return Status::kOk;
}

// Each channel in stretches.
template <class S>
Status tally_runs(const Tallies<S>& k, const Samples& s, const S* x, const double* weights, Tally* state) {
  const size_t bytes = s.outer * s.channels * s.inner * sizeof(S);
  const Blocks blocks(s.outer, s.inner, s.stride, bytes);
  const size_t units = blocks.units();
  const Scratch<Tally> parts(units * s.channels);
  if (!parts.ok()) return Status::kOutOfMemory;
  const parallel::Team team(bytes < kAloneBytes);
  team.for_each(units * s.channels, 1, [&](size_t from, size_t to, size_t) {
    for (size_t i = from; i < to; i++) {
      const size_t c = i / units, u = i % units;
      Tally unit = kEmpty;
      blocks.each(u, [&](Blocks::Block b) {
        const S* const p = x + c * s.inner + b.offset;
        const double count = static_cast<double>(b.pieces) * static_cast<double>(b.n);
        const size_t first = b.offset / s.stride * s.inner + b.offset % s.stride;
        const double* const w = weights ? weights + first : nullptr;
        if (!w) {
          Deviations<double> d = k.run(p, s.stride, b.pieces, b.n, nullptr, blocks.ahead());
          if (isfinite(d.sum)) {
            if (!holds(d, count)) {
              const double center = own_center<Value<S>>(d, count);
              d = k.run(p, s.stride, b.pieces, b.n, &center, 0);
            }
            return merge(unit, tally_of(d, count));
          }
        }
        merge(unit, tally_with_care(p, {b.pieces, b.n, s.stride}, w));
      });
      parts.get()[u * s.channels + c] = unit;
    }
  });
  merge_units(parts.get(), units, s.channels, team);
  for (size_t c = 0; c < s.channels; c++) merge(state[c], parts.get()[c]);
  return Status::kOk;
}

}  // namespace

void merge(Tally& a, const Tally& b) {
  const double missing = a.missing + b.missing;
  if (b.count.high != 0) {
    if (a.count.high == 0) {
      a = b;
    } else {
      const Twice count = a.count + b.count, delta = b.mean - a.mean, share = b.count / count;
      const bool finite = isfinite(a.mean.high) && isfinite(b.mean.high);
      const Twice mean = finite ? a.mean + delta * share : Twice{a.mean.high + b.mean.high, 0};
      const Twice m2 = finite ? a.m2 + b.m2 + delta * delta * (a.count * share) : Twice{NAN, 0};
      a = {count, mean, m2, b.min < a.min ? b.min : a.min, b.max > a.max ? b.max : a.max, 0};
    }
  }
  a.missing = missing;
}

template <class S>
Status tally(const Tallies<S>& k, const Samples& samples, const S* x, const double* weights, Tally* state) {
  const FloatEnvironment environment;
  Samples s = samples;
  if (s.outer == 0 || s.channels == 0 || s.inner == 0) return Status::kOk;
  if (s.channels == 1 && s.stride == s.inner) s = {1, 1, s.outer * s.inner, s.outer * s.inner};
  return s.inner == 1 ? tally_columns(k, s, x, weights, state) : tally_runs(k, s, x, weights, state);
}

#define SIMDNORM_INSTANTIATE(S) \
  template Status tally(const Tallies<S>&, const Samples&, const S*, const double*, Tally*);
SIMDNORM_INSTANTIATE(float)
SIMDNORM_INSTANTIATE(double)
SIMDNORM_INSTANTIATE(Float16)
SIMDNORM_INSTANTIATE(BFloat16)
SIMDNORM_INSTANTIATE(uint8_t)
SIMDNORM_INSTANTIATE(int8_t)
SIMDNORM_INSTANTIATE(int16_t)
SIMDNORM_INSTANTIATE(int32_t)

}  // namespace simdnorm
