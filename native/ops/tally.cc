#include "native/ops/tally.h"

#include <math.h>

#include "native/parallel/float_environment.h"
#include "native/parallel/thread_pool.h"

namespace simdnorm {
namespace {

// What values x of weights w come to, counted from a center: parts of one center are added up, without a merge.
struct Sums {
  Twice weight, sum, squares;  // of w, w * (x - center) and w * (x - center)^2
  double min, max, missing;

  bool finite() const { return isfinite(sum.high); }
  // Whether the center was so near to the mean that M2, a difference, has three quarters of the sum of squares, and
  // nearly all of its digits. (The square of the sum alone might overflow.)
  bool near() const {
    return !finite() || weight.high == 0 || sum.high * (sum.high / weight.high) <= squares.high * 0.25;
  }
};

constexpr Sums kNone = {{0, 0}, {0, 0}, {0, 0}, INFINITY, -INFINITY, 0};

void add(Sums& a, const Sums& b) {
  a = {a.weight + b.weight,           a.sum + b.sum,        a.squares + b.squares, b.min < a.min ? b.min : a.min,
       b.max > a.max ? b.max : a.max, a.missing + b.missing};
}

Sums sums_of(const Deviations<double>& d, size_t count) {
  return {
      {static_cast<double>(count), 0}, settled(d.sum, d.sum_low), settled(d.squares, d.squares_low), d.min, d.max, 0};
}

Tally tally_of(double center, const Sums& s) {
  if (s.weight.high == 0) return {{0, 0}, {0, 0}, {0, 0}, INFINITY, -INFINITY, s.missing};
  const Twice offset = s.sum / s.weight;
  // A zero is +0 there, whichever of them came first.
  Tally t = {s.weight, Twice{center, 0} + offset, s.squares - s.sum * offset, s.min + 0.0, s.max + 0.0, s.missing};
  if (t.m2.high < 0) t.m2 = {0, 0};
  if (!s.finite()) t.m2 = {NAN, 0};
  return t;
}

// The mean in the precision of T, to be counted from.
template <class T>
double center_at(double mean) {
  const double center = static_cast<double>(static_cast<T>(mean));
  return isfinite(center) ? center : 0;
}
template <class T>
double own_center(double center, const Sums& s) {
  return center_at<T>(center + s.sum.high / s.weight.high);
}

// Value by value, for those with weights and missing ones.
void add_value(Sums& s, double x, double weight, double center) {
  if (isnan(x)) {
    s.missing += 1;
    return;
  }
  const auto exactly = [](Twice& t, double term) {
    double rest;
    t.high = two_sum(t.high, term, rest);
    t.low += rest;
  };
  const double d = x - center;
  exactly(s.weight, weight);
  exactly(s.sum, weight * d);
  exactly(s.squares, weight * d * d);
  s.min = x < s.min ? x : s.min;
  s.max = x > s.max ? x : s.max;
}

Sums settled(Sums s) {
  s.weight = settled(s.weight.high, s.weight.low);
  s.sum = settled(s.sum.high, s.sum.low);
  s.squares = settled(s.squares.high, s.squares.low);
  return s;
}

// A stretch of memory as [pieces][n], `stride` apart, and the weights of its elements, one after the other, or null.
template <class S>
Sums careful_sums(const S* x, Rows pieces, const double* weights, double center) {
  Sums s = kNone;
  for (size_t piece = 0; piece < pieces.count; piece++, x += pieces.stride) {
    for (size_t i = 0; i < pieces.n; i++) {
      const double weight = weights ? *weights++ : 1;
      if (weight != 0) add_value(s, wide(x[i]), weight, center);
    }
  }
  return settled(s);
}

// The same down some columns, row by row, as they lie in memory.
template <class S>
void careful_columns(const S* x, Rows rows, const double* weights, const size_t* which, size_t n, const double* center,
                     Sums* out) {
  for (size_t k = 0; k < n; k++) out[which[k]] = kNone;
  for (size_t row = 0; row < rows.count; row++, x += rows.stride) {
    const double weight = weights ? weights[row] : 1;
    if (weight == 0) continue;
    for (size_t k = 0; k < n; k++) add_value(out[which[k]], wide(x[which[k]]), weight, center[which[k]]);
  }
  for (size_t k = 0; k < n; k++) out[which[k]] = settled(out[which[k]]);
}

// Where a guess met a NaN or an infinity, or would meet what has no weight: the mean of some values that count, of the
// first one at least.
template <class S>
double careful_center(const S* x, Rows pieces, const double* weights) {
  constexpr size_t kValues = 64;
  const size_t all = pieces.count * pieces.n, step = at_least(1, all / kValues);
  double first = 0, distance = 0, n = 0;
  for (size_t i = 0; i < all; i += n == 0 ? 1 : step) {
    const double v = wide(x[i / pieces.n * pieces.stride + i % pieces.n]);
    if (!isfinite(v) || (weights && weights[i] == 0)) continue;
    if (n == 0) first = v;
    distance += v - first;
    n += 1;
  }
  return n == 0 ? 0 : center_at<Value<S>>(first + distance / n);
}

constexpr size_t kTallyUnit = 32768;  // rows at most that one thread reads, and a sixteenth of it at least
constexpr size_t kFeatures = 16;      // that one thread adds up

size_t gcd(size_t a, size_t b) { return b == 0 ? a : gcd(b, a % b); }

// Channels side by side. Several rows of few channels are read as one of many, so that no vector is half empty.
template <class S>
class TallyColumns {
 public:
  TallyColumns(const Tallies<S>& k, const Samples& s, const S* x, const double* weights, const parallel::Team& team)
      : k_(k),
        s_(s),
        x_(x),
        weights_(weights),
        team_(team),
        together_(!weights && s.stride < 4 * kVector ? at_most(s.outer, kVector / gcd(kVector, s.stride)) : 1),
        rest_(s.outer % together_),
        cols_((together_ - 1) * s.stride + s.channels),
        stride_(together_ * s.stride),
        blocks_(s.outer / together_, kTallyUnit / 16, kTallyUnit) {}

  Status run(Tally* state) {
    const Scratch<double> centers(s_.channels);
    const Scratch<Sums> parts(blocks_.units() * cols_);
    if (!centers.ok() || !parts.ok()) return Status::kOutOfMemory;
    centers_ = centers.get();
    parts_ = parts.get();
    // A tile of one unit is guessed where it is read.
    const bool ahead = together_ > 1 || blocks_.units() > 1;
    if (ahead) {
      team_.for_each(ceil_div(s_.channels, kTallyColumns), 1, [&](size_t from, size_t to, size_t) {
        for (size_t i = from; i < to; i++) guess(i * kTallyColumns);
      });
    }
    const size_t tiles = ceil_div(cols_, kTallyColumns);
    team_.for_each(blocks_.units() * tiles, 1, [&](size_t from, size_t to, size_t) {
      for (size_t i = from; i < to; i++) {
        const size_t first = i % tiles * kTallyColumns;
        if (!ahead) guess(first);
        take(i / tiles, first, at_most(kTallyColumns, cols_ - first));
      }
    });
    team_.for_each(s_.channels, kFeatures, [&](size_t from, size_t to, size_t) {
      for (size_t c = from; c < to; c++) merge(state[c], total(c));
    });
    return Status::kOk;
  }

 private:
  void guess(size_t first) {
    const size_t n = at_most(kTallyColumns, s_.channels - first);
    if (!weights_) k_.centers(x_ + first, {s_.outer, n, s_.stride}, centers_ + first);
    for (size_t c = first; c < first + n; c++) {
      if (weights_ || !isfinite(centers_[c])) {
        centers_[c] = careful_center(x_ + c, {s_.outer, 1, s_.stride}, weights_);
      }
    }
  }

  // At most kTallyColumns columns of a unit.
  void take(size_t unit, size_t first, size_t n) const {
    const S* const x = x_ + blocks_.first(unit) * stride_ + first;
    const Rows rows = {blocks_.rows(unit), n, stride_};
    double center[kTallyColumns], all[6][kTallyColumns];
    for (size_t j = 0; j < n; j++) {
      const size_t c = (first + j) % s_.stride;
      center[j] = c < s_.channels ? centers_[c] : 0;
    }
    if (!weights_) k_.columns(x, rows, center, {all[0], all[1], all[2], all[3], all[4], all[5]});
    Sums* const out = parts_ + unit * cols_ + first;
    size_t careful[kTallyColumns], count = 0;
    for (size_t j = 0; j < n; j++) {
      if (!weights_ && isfinite(all[0][j])) {
        out[j] = sums_of({all[0][j], all[1][j], all[2][j], all[3][j], all[4][j], all[5][j]}, rows.count);
      } else {
        careful[count++] = j;
      }
    }
    careful_columns(x, rows, weights_ ? weights_ + blocks_.first(unit) : nullptr, careful, count, center, out);
  }

  // Of one channel: all of its columns, and what is left of rows.
  Tally total(size_t c) const {
    Sums all = kNone;
    for (size_t p = 0; p < together_; p++) {
      for (size_t u = 0; u < blocks_.units(); u++) add(all, parts_[u * cols_ + p * s_.stride + c]);
    }
    const S* const left = x_ + (s_.outer - rest_) * s_.stride + c;
    if (rest_ > 0) add(all, careful_sums(left, {rest_, 1, s_.stride}, nullptr, centers_[c]));
    if (all.near()) return tally_of(centers_[c], all);
    const double own = own_center<Value<S>>(centers_[c], all);
    return tally_of(own, careful_sums(x_ + c, {s_.outer, 1, s_.stride}, weights_, own));
  }

  const Tallies<S>& k_;
  const Samples& s_;
  const S* const x_;
  const double* const weights_;
  const parallel::Team& team_;
  const size_t together_, rest_, cols_, stride_;
  const ColumnBlocks blocks_;
  double* centers_ = nullptr;
  Sums* parts_ = nullptr;
};

// Each channel in stretches.
template <class S>
Status tally_runs(const Tallies<S>& k, const Samples& s, const S* x, const double* weights, const parallel::Team& team,
                  Tally* state) {
  const Blocks blocks(s.outer, s.inner, s.stride, s.outer * s.channels * s.inner * sizeof(S));
  const size_t units = blocks.units();
  const Scratch<double> centers(s.channels);
  const Scratch<Sums> parts(units * s.channels);
  if (!centers.ok() || !parts.ok()) return Status::kOutOfMemory;
  team.for_each(s.channels, kFeatures, [&](size_t from, size_t to, size_t) {
    for (size_t c = from; c < to; c++) {
      const S* const p = x + c * s.inner;
      const double guess = weights ? NAN : k.center(p, s.stride, s.outer, s.inner);
      centers.get()[c] = isfinite(guess) ? guess : careful_center(p, {s.outer, s.inner, s.stride}, weights);
    }
  });
  const auto unit_of = [&](size_t c, size_t u, double center) {
    Sums all = kNone;
    blocks.each(u, [&](Blocks::Block b) {
      const S* const p = x + c * s.inner + b.offset;
      if (!weights) {
        const Deviations<double> d = k.run(p, s.stride, b.pieces, b.n, center, blocks.ahead());
        if (isfinite(d.sum)) return add(all, sums_of(d, b.pieces * b.n));
      }
      const double* const w = weights ? weights + b.offset / s.stride * s.inner + b.offset % s.stride : nullptr;
      add(all, careful_sums(p, {b.pieces, b.n, s.stride}, w, center));
    });
    return all;
  };
  team.for_each(units * s.channels, 1, [&](size_t from, size_t to, size_t) {
    for (size_t i = from; i < to; i++) parts.get()[i] = unit_of(i / units, i % units, centers.get()[i / units]);
  });
  team.for_each(s.channels, kFeatures, [&](size_t from, size_t to, size_t) {
    for (size_t c = from; c < to; c++) {
      double center = centers.get()[c];
      Sums all = kNone;
      for (size_t u = 0; u < units; u++) add(all, parts.get()[c * units + u]);
      if (!all.near()) {
        center = own_center<Value<S>>(center, all);
        all = kNone;
        for (size_t u = 0; u < units; u++) add(all, unit_of(c, u, center));
      }
      merge(state[c], tally_of(center, all));
    }
  });
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
      Twice mean = {a.mean.high + b.mean.high, 0}, m2 = {NAN, 0};
      if (isfinite(delta.high)) {
        mean = a.mean + delta * share;
        m2 = a.m2 + b.m2 + delta * delta * (a.count * share);
      } else if (isfinite(a.mean.high) && isfinite(b.mean.high)) {
        mean = a.mean * (a.count / count) + b.mean * share;
        m2 = {INFINITY, 0};
      }
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
  const parallel::Team team(s.outer * s.channels * s.inner * sizeof(S) < kAloneBytes);
  return s.inner == 1 ? TallyColumns<S>(k, s, x, weights, team).run(state) : tally_runs(k, s, x, weights, team, state);
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
