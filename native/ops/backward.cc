#include "native/ops/backward.h"

#include "native/ops/output.h"
#include "native/parallel/float_environment.h"

namespace simdnorm {
namespace {

constexpr size_t kRowsTogether = 32;    // rows whose parameter gradients are summed before their dx, while in cache
constexpr size_t kPartBytes = 4 << 20;  // for parts of the parameter gradients

// xHat as the kernels take it, (x - center) * scale + shift. For an extreme statistic all zero: the kernel then adds
// nothing, and the op adds the part in double.
template <class T>
Affine<T> x_hat_of(const Statistic& s, bool careful) {
  if (careful) return {T(0), T(0), T(0)};
  return {static_cast<T>(s.mean), static_cast<T>(s.rstd), static_cast<T>(-(s.rest * s.rstd))};
}

// dx = h * dy_factor + xHat * x_factor + constant
struct Line {
  double dy_factor, x_factor, constant;
};

template <class S>
class Pass {
 public:
  using T = Value<S>;
  Pass(const Kernels<S>& k, const Backward<S>& op)
      : k_(k),
        op_(op),
        g_(op.g),
        dy_(op.gated ? op.gated : op.dy),
        blocks_(op.g.run > 1 ? Blocks(op.g.outer, op.g.run, op.g.stride()) : Blocks(1, op.g.inner, 0)),
        sums_wanted_(op.dweight || op.dbias || (op.dx && !op.constant)) {}

  Status run() {
    const bool alone = g_.elements() * 3 * sizeof(S) < kAloneBytes;
    const FloatEnvironment environment;
    if (g_.columns()) return by_columns(alone);
    return g_.run > 1 ? by_channels(alone) : by_elements(alone);
  }

 private:
  T weight(size_t channel) const { return op_.weight ? op_.weight[channel] : T(1); }
  T bias(size_t channel) const { return op_.bias ? op_.bias[channel] : T(0); }
  const S* add_at(size_t i) const { return op_.add ? op_.add + i : nullptr; }
  // g[i], where y is as it was before the ReLU; rounded to T first, as the kernels have it.
  template <class V>
  void open(size_t i, V y) const {
    op_.gated[i] = static_cast<T>(y) <= 0 ? stored<S>(T(0)) : op_.dy[i];
  }
  bool is_extreme(const Statistic& s) const { return extreme<T>(s, static_cast<double>(g_.count())); }

  // From the sums of h and h * xHat over one statistic.
  Line line(const Statistic& s, GradSums h) const {
    if (op_.constant) return {s.rstd, 0, 0};
    const double n = static_cast<double>(g_.count());
    return {s.rstd, -(s.rstd * (h.dy_xhat / n)), op_.about == About::kZero ? 0 : -(s.rstd * (h.dy / n))};
  }

  S dx_in_double(S dy, S x, const Statistic& s, const Line& f, T weight) const {
    const double h = wide(dy) * static_cast<double>(weight) * f.dy_factor;
    const double dx = op_.constant ? h : h + x_hat_in_double(x, s) * f.x_factor + f.constant;
    return stored<S>(static_cast<T>(dx * s.scale));
  }

  // unit_of(u) for each unit of blocks_, by the whole team, added in their order. `units` is for a team of several.
  template <class F>
  GradSums sum_units(const parallel::Team& team, GradSums* units, F unit_of) const {
    const bool shared = team.size() > 1 && blocks_.units() > 1;
    if (shared) {
      team.for_each(blocks_.units(), 1, [&](size_t from, size_t to, size_t) {
        for (size_t u = from; u < to; u++) units[u] = unit_of(u);
      });
    }
    GradSums all = {0, 0};
    for (size_t u = 0; u < blocks_.units(); u++) {
      const GradSums part = shared ? units[u] : unit_of(u);
      all.dy += part.dy;
      all.dy_xhat += part.dy_xhat;
    }
    return all;
  }

  // ---- a run of elements for each channel ----

  void gate_run(size_t at, size_t n, const Statistic& s, size_t channel) const {
    if (!is_extreme(s)) {
      k_.gate(op_.gated + at, op_.dy + at, op_.x + at, n, folded(s, weight(channel), bias(channel)), add_at(at));
      return;
    }
    for (size_t i = at; i < at + n; i++) {
      open(i, y_in_double(op_.x[i], s, weight(channel), bias(channel), add_at(i)));
    }
  }

  GradSums channel_sums(size_t begin, size_t channel, const Statistic& s, const parallel::Team& team,
                        GradSums* units) const {
    const S *dy = dy_ + begin, *x = op_.x + begin;
    const bool careful = is_extreme(s);
    const Affine<T> f = x_hat_of<T>(s, careful);
    const auto unit_of = [&](size_t unit) {
      GradSums sums = {0, 0};
      blocks_.each(unit, [&](Blocks::Block b) {
        for (size_t p = 0; op_.gated && p < b.pieces; p++) {
          gate_run(begin + b.offset + p * g_.stride(), b.n, s, channel);
        }
        const GradSums part = k_.grad_sums(dy + b.offset, x + b.offset, g_.stride(), b.pieces, b.n, f.center, f.scale);
        sums.dy += part.dy;
        sums.dy_xhat += part.dy_xhat;
        for (size_t p = 0; careful && p < b.pieces; p++) {
          for (size_t i = b.offset + p * g_.stride(); i < b.offset + p * g_.stride() + b.n; i++) {
            sums.dy_xhat += wide(dy[i]) * x_hat_in_double(x[i], s);
          }
        }
      });
      return sums;
    };
    GradSums all = sum_units(team, units, unit_of);
    // The kernel's xHat lacks the rest of the mean.
    if (!careful) all.dy_xhat -= s.rest * s.rstd * all.dy;
    return all;
  }

  void one_statistic(size_t index, double* parts, const parallel::Team& team, GradSums* units) const {
    const Statistic& s = op_.saved[index];
    const size_t begin = g_.begin(index), channels = g_.channels_per_group();
    const size_t first = index % g_.groups * channels;
    GradSums h = {0, 0};
    if (sums_wanted_) {
      double* part = parts + index / g_.groups * 2 * g_.channels;
      for (size_t c = 0; c < channels; c++) {
        const GradSums sums = channel_sums(begin + c * g_.run, first + c, s, team, units);
        part[first + c] = sums.dy;
        part[g_.channels + first + c] = sums.dy_xhat;
        h.dy += sums.dy * static_cast<double>(weight(first + c));
        h.dy_xhat += sums.dy_xhat * static_cast<double>(weight(first + c));
      }
    }
    if (!op_.dx && !(op_.gated && !sums_wanted_)) return;
    const bool careful = is_extreme(s);
    const Line f = line(s, h);
    const size_t pieces = g_.outer * channels;
    team.for_each(pieces, team.grain(pieces, g_.run * 3 * sizeof(S)), [&](size_t from, size_t to, size_t) {
      for (size_t i = from; i < to; i++) {
        const size_t at = begin + i / channels * g_.stride() + i % channels * g_.run;
        const T w = weight(first + i % channels);
        if (op_.gated && !sums_wanted_) gate_run(at, g_.run, s, first + i % channels);
        if (!op_.dx) continue;
        S* dx = op_.dx + at;
        const S *dy = dy_ + at, *x = op_.x + at;
        const T dy_factor = static_cast<T>(f.dy_factor * static_cast<double>(w));
        if (careful) {
          for (size_t e = 0; e < g_.run; e++) dx[e] = dx_in_double(dy[e], x[e], s, f, w);
        } else if (op_.constant) {
          k_.apply(dx, dy, g_.run, {T(0), dy_factor, T(0)}, {nullptr, false});
        } else {
          k_.slope(dx, dy, x, g_.run,
                   {static_cast<T>(s.mean), static_cast<T>(s.rstd), dy_factor, static_cast<T>(f.x_factor),
                    static_cast<T>(f.constant - s.rest * s.rstd * f.x_factor)});
        }
      }
    });
  }

  Status by_channels(bool alone) {
    const parallel::Team solo(true), team(alone);
    const size_t items = g_.statistics();
    const bool across = team.size() == 1 || items >= 2 * team.size();
    const parallel::Team &outside = across ? team : solo, &inside = across ? solo : team;
    const Scratch<double> parts(sums_wanted_ ? g_.batch * 2 * g_.channels : 0);
    const Scratch<GradSums> units(across ? 0 : blocks_.units());
    if (!parts.ok() || !units.ok()) return Status::kOutOfMemory;
    outside.for_each(items, outside.grain(items, g_.count() * 3 * sizeof(S)), [&](size_t from, size_t to, size_t) {
      for (size_t i = from; i < to; i++) one_statistic(i, parts.get(), inside, units.get());
    });
    add_parts(parts.get(), g_.batch);
    return Status::kOk;
  }

  // ---- one weight for each element of a row: LayerNorm and its like, outer is 1 ----

  // Elements [from, to) of one statistic's row.
  void gate_row(size_t index, size_t from, size_t to) const {
    const Statistic& s = op_.saved[index];
    const size_t at = g_.begin(index) + from, channel = index % g_.groups * g_.inner + from;
    if (!is_extreme(s)) {
      k_.gate_elements(op_.gated + at, op_.dy + at, op_.x + at, to - from, folded(s, T(1), T(0)),
                       op_.weight ? op_.weight + channel : nullptr, op_.bias ? op_.bias + channel : nullptr,
                       add_at(at));
      return;
    }
    for (size_t i = 0; i < to - from; i++) {
      open(at + i, y_in_double(op_.x[at + i], s, weight(channel + i), bias(channel + i), add_at(at + i)));
    }
  }

  // dy and dy * xHat of rows [from, to), columns [first, last), added to part.
  void element_sums(size_t from, size_t to, size_t first, size_t last, double* part) const {
    const size_t cols = g_.stride();
    Affine<T> f[kRowsTogether];
    for (size_t group = first / g_.inner; group * g_.inner < last; group++) {
      const size_t begin = at_least(first, group * g_.inner), end = at_most(last, (group + 1) * g_.inner);
      bool careful = false;
      for (size_t row = from; row < to; row++) {
        const Statistic& s = op_.saved[row * g_.groups + group];
        f[row - from] = x_hat_of<T>(s, is_extreme(s));
        careful = careful || is_extreme(s);
      }
      const size_t at = from * cols + begin;
      double *dy_part = part + begin, *dy_xhat_part = part + g_.channels + begin;
      k_.grad_columns_by_row(dy_ + at, op_.x + at, cols, to - from, end - begin, f, dy_part, dy_xhat_part);
      for (size_t row = from; careful && row < to; row++) {
        const Statistic& s = op_.saved[row * g_.groups + group];
        if (!is_extreme(s)) continue;
        for (size_t j = begin; j < end; j++) {
          const size_t i = row * cols + j;
          dy_xhat_part[j - begin] += wide(dy_[i]) * x_hat_in_double(op_.x[i], s);
        }
      }
    }
  }

  void one_row(size_t index, const parallel::Team& team, GradSums* units) const {
    const Statistic& s = op_.saved[index];
    const size_t begin = g_.begin(index), n = g_.inner, first = index % g_.groups * n;
    const S *dy = dy_ + begin, *x = op_.x + begin;
    const T* weights = op_.weight ? op_.weight + first : nullptr;
    const bool careful = is_extreme(s);
    const Affine<T> x_hat = x_hat_of<T>(s, false);
    GradSums h = {0, 0};
    if (!op_.constant) {
      const auto unit_of = [&](size_t unit) {
        GradSums sums = {0, 0};
        blocks_.each(unit, [&](Blocks::Block b) {
          if (careful) {
            for (size_t i = b.offset; i < b.offset + b.n; i++) {
              const double g = wide(dy[i]) * static_cast<double>(weight(first + i));
              sums.dy += g;
              sums.dy_xhat += g * x_hat_in_double(x[i], s);
            }
            return;
          }
          const GradSums part =
              k_.grad_sums_elements(dy + b.offset, x + b.offset, b.n, x_hat, weights ? weights + b.offset : nullptr);
          sums.dy += part.dy;
          sums.dy_xhat += part.dy_xhat;
        });
        return sums;
      };
      h = sum_units(team, units, unit_of);
    }
    const Line f = line(s, h);
    team.for_each(n, team.grain(n, 3 * sizeof(S)), [&](size_t from, size_t to, size_t) {
      S* dx = op_.dx + begin;
      if (careful || op_.constant) {
        for (size_t i = from; i < to; i++) dx[i] = dx_in_double(dy[i], x[i], s, f, weight(first + i));
        return;
      }
      k_.slope_elements(dx + from, dy + from, x + from, to - from, x_hat, weights ? weights + from : nullptr,
                        static_cast<T>(f.dy_factor), static_cast<T>(f.x_factor), static_cast<T>(f.constant));
    });
  }

  Status by_elements(bool alone) {
    const parallel::Team team(alone), solo(true);
    const bool parameters = op_.dweight || op_.dbias;
    // The rows of one part, by shape alone: some memory for the parts, and enough rows in each to be worth it.
    const size_t most = at_most(64, at_least(1, kPartBytes / (2 * sizeof(double) * g_.channels)));
    const size_t rows_each = at_least(kRowsTogether, ceil_div(g_.batch, most));
    const size_t count = ceil_div(g_.batch, rows_each);
    const bool across = team.size() == 1 || count >= 2 * team.size();

    const Scratch<double> parts(parameters ? count * 2 * g_.channels : 0);
    const Scratch<GradSums> units(across ? 0 : blocks_.units());
    if (!parts.ok() || !units.ok()) return Status::kOutOfMemory;
    for (size_t i = 0; parameters && i < count * 2 * g_.channels; i++) parts.get()[i] = 0;

    const auto chunks = [&](size_t part, auto f) {
      const size_t end = at_most(g_.batch, (part + 1) * rows_each);
      for (size_t row = part * rows_each; row < end; row += kRowsTogether) f(row, at_most(end, row + kRowsTogether));
    };
    const auto rows = [&](size_t from, size_t to, const parallel::Team& helpers) {
      for (size_t i = from * g_.groups; op_.dx && i < to * g_.groups; i++) one_row(i, helpers, units.get());
    };
    if (across) {
      team.for_each(count, 1, [&](size_t from, size_t to, size_t) {
        for (size_t part = from; part < to; part++) {
          chunks(part, [&](size_t row, size_t end) {
            for (size_t i = row * g_.groups; op_.gated && i < end * g_.groups; i++) gate_row(i, 0, g_.inner);
            if (parameters) element_sums(row, end, 0, g_.channels, parts.get() + part * 2 * g_.channels);
            rows(row, end, solo);
          });
        }
      });
    } else {
      for (size_t i = 0; op_.gated && i < g_.statistics(); i++) {
        team.for_each(g_.inner, team.grain(g_.inner, 3 * sizeof(S)),
                      [&](size_t from, size_t to, size_t) { gate_row(i, from, to); });
      }
      // Few, long rows: first the parameters, each thread some columns (dx may overwrite what they need), then dx.
      if (parameters) {
        const size_t grain = ceil_div(team.grain(g_.channels, g_.batch * 2 * sizeof(S)), 16) * 16;
        team.for_each(g_.channels, grain, [&](size_t first, size_t last, size_t) {
          for (size_t part = 0; part < count; part++) {
            chunks(part, [&](size_t row, size_t end) {
              element_sums(row, end, first, last, parts.get() + part * 2 * g_.channels);
            });
          }
        });
      }
      if (g_.batch >= 2 * team.size()) {
        team.for_each(g_.batch, 1, [&](size_t from, size_t to, size_t) { rows(from, to, solo); });
      } else {
        rows(0, g_.batch, team);
      }
    }
    if (parameters) add_parts(parts.get(), count);
    return Status::kOk;
  }

  // ---- channels side by side ----

  static constexpr size_t kCoefficients = 7;
  struct ColumnScratch {
    double* units;    // [units][2][cols]
    double* columns;  // [2][cols], where rows are channels
    T* coefficients;  // [kCoefficients][cols]
    Line* lines;      // [groups]
  };

  // The columns of rows [from, to) behind `begin`, as forward made them.
  void gate_rows(size_t begin, size_t from, size_t to, const Statistic* stats, AffineColumns<T> f, bool careful) const {
    const size_t cols = g_.stride(), at = begin + from * cols;
    if (f.row_weight) f.row_weight += from;
    if (f.row_bias) f.row_bias += from;
    if (!careful) {
      k_.gate_columns(op_.gated + at, op_.dy + at, op_.x + at, cols, to - from, cols, f, add_at(at));
      return;
    }
    for (size_t i = 0; i < (to - from) * cols; i++) {
      const size_t row = i / cols, j = i % cols, channel = g_.channel_by_row() ? from + row : j;
      const Statistic& s = stats[j / g_.inner];
      if (is_extreme(s)) {
        open(at + i, y_in_double(op_.x[at + i], s, weight(channel), bias(channel), add_at(at + i)));
      } else {
        open(at + i, y_of_column(op_.x[at + i], f, j, row, add_at(at + i)));
      }
    }
  }

  void one_matrix(size_t b, double* part, const parallel::Team& team, ColumnScratch scratch) const {
    const size_t cols = g_.stride(), begin = b * g_.outer * cols;
    const bool by_row = g_.channel_by_row();
    const T* row_weight = by_row ? op_.weight : nullptr;
    const Statistic* stats = op_.saved + b * g_.groups;
    const S *dy = dy_ + begin, *x = op_.x + begin;
    T* const center = scratch.coefficients;
    T *scale = center + cols, *dy_factor = scale + cols, *x_factor = dy_factor + cols, *constant = x_factor + cols;
    // For the gate, or for the rows' own sums.
    T *y_scale = constant + cols, *shift = y_scale + cols;
    bool careful = false;
    for (size_t j = 0; j < cols; j++) {
      const Statistic& s = stats[j / g_.inner];
      const Affine<T> f = x_hat_of<T>(s, is_extreme(s));
      center[j] = f.center;
      scale[j] = f.scale;
      careful = careful || is_extreme(s);
      if (!op_.gated) continue;
      const Affine<T> y = folded(s, by_row ? T(1) : weight(j), by_row ? T(0) : bias(j));
      y_scale[j] = y.scale;
      shift[j] = y.shift;
    }
    const AffineColumns<T> y = {center, y_scale, shift, row_weight, by_row ? op_.bias : nullptr};
    const double* sums = nullptr;  // of h and h * xHat down each column
    if (sums_wanted_) {
      const ColumnBlocks blocks(g_.outer, cols);
      team.for_each(blocks.units(), 1, [&](size_t from, size_t to, size_t) {
        for (size_t u = from; u < to; u++) {
          double* unit = scratch.units + u * 2 * cols;
          for (size_t i = 0; i < 2 * cols; i++) unit[i] = 0;
          blocks.each(u, [&](size_t row, size_t rows) {
            if (op_.gated) gate_rows(begin, row, row + rows, stats, y, careful);
            const S *dy_rows = dy + row * cols, *x_rows = x + row * cols;
            const T* weights = row_weight ? row_weight + row : nullptr;
            k_.grad_columns(dy_rows, x_rows, cols, rows, cols, center, scale, weights, unit, unit + cols);
            for (size_t i = 0; careful && i < rows * cols; i++) {
              const Statistic& s = stats[i % cols / g_.inner];
              if (!is_extreme(s)) continue;
              const double h = wide(dy_rows[i]) * (weights ? static_cast<double>(weights[i / cols]) : 1);
              unit[cols + i % cols] += h * x_hat_in_double(x_rows[i], s);
            }
          });
        }
      });
      double* total = by_row ? scratch.columns : part;
      for (size_t j = 0; j < cols; j++) {
        const Statistic& s = stats[j / g_.inner];
        total[j] = total[cols + j] = 0;
        for (size_t u = 0; u < blocks.units(); u++) {
          total[j] += scratch.units[u * 2 * cols + j];
          total[cols + j] += scratch.units[u * 2 * cols + cols + j];
        }
        if (!is_extreme(s)) total[cols + j] -= s.rest * s.rstd * total[j];
      }
      sums = total;
    } else if (op_.gated) {
      const size_t grain = team.grain(g_.outer, cols * 3 * sizeof(S));
      team.for_each(g_.outer, grain,
                    [&](size_t from, size_t to, size_t) { gate_rows(begin, from, to, stats, y, careful); });
    }
    if (by_row && (op_.dweight || op_.dbias)) row_sums(begin, part, stats, center, scale, shift, careful, team);
    if (!op_.dx) return;
    for (size_t group = 0; group < g_.groups; group++) {
      GradSums h = {0, 0};
      const size_t first = group * g_.inner, last = first + g_.inner;
      for (size_t j = first; sums_wanted_ && j < last; j++) {
        const double w = by_row ? 1 : static_cast<double>(weight(j));
        h.dy += sums[j] * w;
        h.dy_xhat += sums[cols + j] * w;
      }
      const Statistic& s = stats[group];
      const Line f = scratch.lines[group] = line(s, h);
      for (size_t j = first; j < last; j++) {
        dy_factor[j] = static_cast<T>(f.dy_factor * (by_row ? 1 : static_cast<double>(weight(j))));
        x_factor[j] = static_cast<T>(f.x_factor);
        constant[j] = static_cast<T>(f.constant - s.rest * s.rstd * f.x_factor);
        if (op_.constant) center[j] = constant[j] = T(0);
      }
    }
    team.for_each(g_.outer, team.grain(g_.outer, cols * 3 * sizeof(S)), [&](size_t from, size_t to, size_t) {
      const size_t at = from * cols;
      const T* weights = row_weight ? row_weight + from : nullptr;
      S* dx = op_.dx + begin + at;
      if (op_.constant && !careful) {
        k_.apply_columns(dx, dy + at, cols, to - from, cols, {center, dy_factor, constant, weights, nullptr},
                         {nullptr, false});
        return;
      }
      if (!careful) {
        k_.slope_columns(dx, dy + at, x + at, cols, to - from, cols,
                         {center, scale, dy_factor, x_factor, constant, weights});
        return;
      }
      for (size_t i = 0; i < (to - from) * cols; i++) {
        const size_t j = i % cols;
        const Statistic& s = stats[j / g_.inner];
        const S g = dy[at + i], v = x[at + i];
        if (is_extreme(s)) {
          const T w = by_row ? weight(from + i / cols) : weight(j);
          dx[i] = dx_in_double(g, v, s, scratch.lines[j / g_.inner], w);
        } else {
          const T h = weights ? value_of(g) * weights[i / cols] : value_of(g);
          const T line = h * dy_factor[j];
          const T x_hat = (value_of(v) - center[j]) * scale[j];
          dx[i] = stored<S>(op_.constant ? line + constant[j] : line + x_hat * x_factor[j] + constant[j]);
        }
      }
    });
  }

  // Where rows are channels: dy and dy * xHat along each of them.
  void row_sums(size_t begin, double* part, const Statistic* stats, const T* center, const T* scale, T* shift,
                bool careful, const parallel::Team& team) const {
    const size_t cols = g_.stride();
    for (size_t j = 0; j < cols; j++) shift[j] = x_hat_of<T>(stats[j], is_extreme(stats[j])).shift;
    team.for_each(g_.outer, team.grain(g_.outer, cols * 2 * sizeof(S)), [&](size_t from, size_t to, size_t) {
      for (size_t row = from; row < to; row++) {
        const S *dy = dy_ + begin + row * cols, *x = op_.x + begin + row * cols;
        GradSums sums = {0, 0};
        for (size_t j = 0; j < cols; j += kBlock) {
          const size_t n = at_most(kBlock, cols - j);
          const GradSums block =
              k_.grad_sums_row(dy + j, x + j, n, {center + j, scale + j, shift + j, nullptr, nullptr});
          sums.dy += block.dy;
          sums.dy_xhat += block.dy_xhat;
        }
        for (size_t j = 0; careful && j < cols; j++) {
          if (is_extreme(stats[j])) sums.dy_xhat += wide(dy[j]) * x_hat_in_double(x[j], stats[j]);
        }
        part[row] = sums.dy;
        part[g_.channels + row] = sums.dy_xhat;
      }
    });
  }

  Status by_columns(bool alone) {
    const parallel::Team solo(true), team(alone);
    const size_t cols = g_.stride();
    const bool across = team.size() == 1 || g_.batch >= 2 * team.size();
    const parallel::Team &outside = across ? team : solo, &inside = across ? solo : team;
    const size_t workers = across ? team.size() : 1, units = ColumnBlocks(g_.outer, cols).units();
    const size_t own_columns = g_.channel_by_row() ? 2 * cols : 0;
    const Scratch<double> parts(g_.batch * 2 * g_.channels), unit_sums(workers * units * 2 * cols);
    const Scratch<double> columns(workers * own_columns);
    const Scratch<T> coefficients(workers * kCoefficients * cols);
    const Scratch<Line> lines(workers * g_.groups);
    if (!parts.ok() || !unit_sums.ok() || !columns.ok() || !coefficients.ok() || !lines.ok()) {
      return Status::kOutOfMemory;
    }
    outside.for_each(
        g_.batch, outside.grain(g_.batch, g_.outer * cols * 3 * sizeof(S)), [&](size_t from, size_t to, size_t worker) {
          for (size_t b = from; b < to; b++) {
            one_matrix(b, parts.get() + b * 2 * g_.channels, inside,
                       {unit_sums.get() + worker * units * 2 * cols, columns.get() + worker * own_columns,
                        coefficients.get() + worker * kCoefficients * cols, lines.get() + worker * g_.groups});
          }
        });
    add_parts(parts.get(), g_.batch);
    return Status::kOk;
  }

  // Adds the parts, [count][dy, dy * xHat][channels], to the parameter gradients in their order.
  void add_parts(const double* parts, size_t count) const {
    const auto add = [&](T* gradient, size_t which) {
      if (!gradient) return;
      for (size_t c = 0; c < g_.channels; c++) {
        double sum = 0;
        for (size_t i = 0; i < count; i++) sum += parts[(i * 2 + which) * g_.channels + c];
        gradient[c] = static_cast<T>(static_cast<double>(gradient[c]) + sum);
      }
    };
    add(op_.dbias, 0);
    add(op_.dweight, 1);
  }

  const Kernels<S>& k_;
  const Backward<S>& op_;
  const Geometry& g_;
  const S* const dy_;    // behind the ReLU's gate, if there is one
  const Blocks blocks_;  // of one channel's runs, or of one row
  const bool sums_wanted_;
};

}  // namespace

template <class S>
Status backward(const Kernels<S>& k, const Backward<S>& op) {
  return Pass<S>(k, op).run();
}

template Status backward(const Kernels<float>&, const Backward<float>&);
template Status backward(const Kernels<double>&, const Backward<double>&);
template Status backward(const Kernels<Float16>&, const Backward<Float16>&);
template Status backward(const Kernels<BFloat16>&, const Backward<BFloat16>&);

}  // namespace simdnorm
