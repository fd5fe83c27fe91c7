// Channels, or groups of them, side by side: channels-last memory and (N, C). And rows that are channels: LayerNorm
// over an axis, where each column has a statistic and each row a weight.
//
// Statistics run down the columns, whole rows at a time. A pass without weights by row then takes the matrix as one
// stretch whose coefficients repeat.
#include <initializer_list>

#include "native/ops/kinds.h"

namespace simdnorm {
namespace {

// How coefficients of the columns are laid out for the kernels (Periodic in kernels.h): over again for a vector more,
// and as far behind a line's begin as `output`, whose lines the kernels write: so they are read by whole lines too.
class Columns {
 public:
  template <class T>
  Columns(const Geometry& g, const T* output)
      : cols_(g.stride()), period_(ceil_div(kVector, at_least(1, cols_)) * cols_), off_(behind_line(output)) {}
  // Of one coefficient in memory.
  size_t length() const { return ceil_div(period_, kVector) * kVector + 2 * kVector; }
  template <class T>
  T* coefficient(T* memory, size_t i) const {
    return memory + i * length() + off_;
  }
  template <class T>
  void repeat(T* coefficient) const {
    for (size_t j = cols_; j < period_ + kVector; j++) coefficient[j] = coefficient[j - cols_];
  }
  // Rows [from, from + rows).
  Periodic at(size_t from, size_t rows) const { return {rows * cols_, period_, from * cols_ % period_}; }

 private:
  size_t cols_, period_, off_;
};

// f(from, to) for rows that a thread claims at once, last rows first where memory that was just read is still in L3.
template <class F>
void each_rows(const parallel::Team& team, size_t rows, size_t bytes_each, bool backwards, F f) {
  const size_t together = at_least(1, (size_t(256) << 10) / at_least(1, bytes_each)), strips = ceil_div(rows, together);
  team.for_each(strips, team.grain(strips, together * bytes_each), [&](size_t from, size_t to, size_t) {
    for (size_t i = from; i < to; i++) {
      const size_t first = (backwards ? strips - 1 - i : i) * together;
      f(first, at_most(rows, first + together));
    }
  });
}

template <class S>
class ColumnsForward : ForwardBase<S> {
  using Base = ForwardBase<S>;
  using Base::bytes_, Base::g_, Base::k_, Base::op_;
  using typename Base::T;

 public:
  ColumnsForward(const Kernels<S>& k, const Normalize<S>& op)
      : Base(k, op), layout_(g_, op.y), by_row_(g_.channel_by_row()) {}

  Status run() {
    const Teams teams(this->alone(), g_.batch);
    const size_t cols = g_.stride(), workers = teams.workers();
    const size_t units = op_.use_running ? 0 : ColumnBlocks(g_.outer).units() * 4 * cols;
    const Scratch<double> column_units(units * workers);
    const Scratch<Moments> moments(op_.use_running ? 0 : g_.groups * workers);
    const Scratch<T> coefficients(3 * layout_.length() * workers);
    if (!column_units.ok() || !moments.ok() || !coefficients.ok()) return Status::kOutOfMemory;
    if (op_.use_running) this->use_running(op_.saved);
    stores_ = this->stores(g_.outer * cols * sizeof(S), teams.all.size());
    const size_t grain = teams.outside().grain(g_.batch, bytes_ / at_least(1, g_.batch));
    teams.outside().for_each(g_.batch, grain, [&](size_t from, size_t to, size_t worker) {
      for (size_t b = from; b < to; b++) {
        Statistic* stats = op_.saved + b * g_.groups;
        if (!op_.use_running) {
          take(b, stats, teams.inside(), column_units.get() + units * worker, moments.get() + g_.groups * worker);
        }
        apply(b, stats, teams.inside(), coefficients.get() + 3 * layout_.length() * worker);
      }
    });
    return Status::kOk;
  }

 private:
  void take(size_t b, Statistic* stats, const parallel::Team& team, double* units, Moments* moments) const {
    const size_t cols = g_.stride();
    const S* x = op_.x + b * g_.outer * cols;
    reduce_columns(k_, x, g_, op_.rule, team, units, moments);
    for (size_t group = 0; group < g_.groups; group++) {
      stats[group] = statistic_of(moments[group], op_.rule, x + group * g_.inner, cols, g_.outer, g_.inner);
    }
  }

  void apply(size_t b, const Statistic* stats, const parallel::Team& team, T* coefficients) const {
    const size_t cols = g_.stride(), begin = b * g_.outer * cols;
    T *center = layout_.coefficient(coefficients, 0), *scale = layout_.coefficient(coefficients, 1),
      *shift = layout_.coefficient(coefficients, 2);
    bool careful = false;
    for (size_t j = 0; j < cols; j++) {
      const Statistic& s = stats[j / g_.inner];
      const Affine<T> f = folded(s, by_row_ ? T(1) : this->weight(j), by_row_ ? T(0) : this->bias(j));
      center[j] = f.center;
      scale[j] = f.scale;
      shift[j] = f.shift;
      careful = careful || this->is_extreme(s);
    }
    for (T* each : {center, scale, shift}) layout_.repeat(each);
    const size_t row_bytes = cols * this->streams() * sizeof(S);
    const bool backwards = !op_.use_running && g_.outer * cols * sizeof(S) <= cpu::caches().l3;
    each_rows(team, g_.outer, row_bytes, backwards, [&](size_t from, size_t to) {
      AffineColumns<T> f = {center, scale, shift, nullptr, nullptr};
      if (by_row_ && op_.weight) f.row_weight = op_.weight + from;
      if (by_row_ && op_.bias) f.row_bias = op_.bias + from;
      const size_t at = begin + from * cols;
      if (careful) {
        apply_with_care(at, from, to, stats, f);
      } else if (f.row_weight || f.row_bias) {
        k_.apply_by_row(op_.y + at, op_.x + at, {to - from, cols, cols}, f, this->finish_at(at));
      } else {
        k_.apply_columns(op_.y + at, op_.x + at, layout_.at(from, to - from), f, this->finish_at(at), stores_);
      }
    });
  }

  void apply_with_care(size_t at, size_t from, size_t to, const Statistic* stats, const AffineColumns<T>& f) const {
    const size_t cols = g_.stride();
    for (size_t i = 0; i < (to - from) * cols; i++) {
      const size_t row = i / cols, j = i % cols, channel = by_row_ ? from + row : j;
      const Statistic& s = stats[j / g_.inner];
      if (this->is_extreme(s)) {
        this->put_in_double(at + i, s, channel);
      } else {
        this->put(at + i, y_of_column(op_.x[at + i], f, j, row, this->finish_at(at + i).add));
      }
    }
  }

  const Columns layout_;
  const bool by_row_;
  Stores stores_ = Stores::kCached;
};

// ---- back ----

template <class S>
class ColumnsBackward : BackwardBase<S> {
  using Base = BackwardBase<S>;
  using Base::bytes_, Base::dy_, Base::g_, Base::k_, Base::op_, Base::sums_wanted_;
  using typename Base::T;

 public:
  ColumnsBackward(const Kernels<S>& k, const Backward<S>& op)
      : Base(k, op), layout_(g_, op.dx), by_row_(g_.channel_by_row()), blocks_(g_.outer) {}

  Status run() {
    const Teams teams(this->alone(), g_.batch);
    const size_t cols = g_.stride(), workers = teams.workers(), units = blocks_.units() * 2 * cols;
    const size_t own_columns = by_row_ ? 2 * cols : 0, coefficients_each = kCoefficients * layout_.length();
    const Scratch<double> parts(g_.batch * 2 * g_.channels), unit_sums(workers * units);
    const Scratch<double> columns(workers * own_columns);
    const Scratch<T> coefficients(workers * coefficients_each);
    const Scratch<Line> lines(workers * g_.groups);
    if (!parts.ok() || !unit_sums.ok() || !columns.ok() || !coefficients.ok() || !lines.ok()) {
      return Status::kOutOfMemory;
    }
    stores_ = this->stores(g_.outer * cols * sizeof(S), teams.all.size());
    const size_t grain = teams.outside().grain(g_.batch, bytes_ / at_least(1, g_.batch));
    teams.outside().for_each(g_.batch, grain, [&](size_t from, size_t to, size_t worker) {
      for (size_t b = from; b < to; b++) {
        matrix(b, parts.get() + b * 2 * g_.channels, teams.inside(),
               {unit_sums.get() + worker * units, columns.get() + worker * own_columns,
                coefficients.get() + worker * coefficients_each, lines.get() + worker * g_.groups});
      }
    });
    this->add_parts(parts.get(), g_.batch);
    return Status::kOk;
  }

 private:
  static constexpr size_t kCoefficients = 7;
  struct Memory {
    double* units;    // [units][2][cols]
    double* columns;  // [2][cols], where rows are channels
    T* coefficients;  // [kCoefficients] of the layout
    Line* lines;      // [groups]
  };

  // The columns of rows [from, to) behind `begin`, as forward made them.
  void gate_rows(size_t begin, size_t from, size_t to, const Statistic* stats, AffineColumns<T> f, bool careful) const {
    const size_t cols = g_.stride(), at = begin + from * cols;
    if (f.row_weight) f.row_weight += from;
    if (f.row_bias) f.row_bias += from;
    if (!careful) {
      k_.gate_by_row(op_.gated + at, op_.dy + at, op_.x + at, {to - from, cols, cols}, f, this->add_at(at));
      return;
    }
    for (size_t i = 0; i < (to - from) * cols; i++) {
      const size_t row = i / cols, j = i % cols;
      const Statistic& s = stats[j / g_.inner];
      if (this->is_extreme(s)) {
        this->open_in_double(at + i, s, by_row_ ? from + row : j);
      } else {
        this->open(at + i, y_of_column(op_.x[at + i], f, j, row, this->add_at(at + i)));
      }
    }
  }

  void matrix(size_t b, double* part, const parallel::Team& team, const Memory& memory) const {
    const size_t cols = g_.stride(), begin = b * g_.outer * cols;
    const T* row_weight = by_row_ ? op_.weight : nullptr;
    const Statistic* stats = op_.saved + b * g_.groups;
    const S *dy = dy_ + begin, *x = op_.x + begin;
    const auto coefficients = [&](size_t i) { return layout_.coefficient(memory.coefficients, i); };
    T *const center = coefficients(0), *const scale = coefficients(1), *const dy_factor = coefficients(2);
    T *const x_factor = coefficients(3), *const constant = coefficients(4);
    T *const y_scale = coefficients(5), *const shift = coefficients(6);
    bool careful = false;
    for (size_t j = 0; j < cols; j++) {
      const Statistic& s = stats[j / g_.inner];
      const Affine<T> f = this->x_hat_of(s);
      center[j] = f.center;
      scale[j] = f.scale;
      careful = careful || this->is_extreme(s);
      if (!op_.gated) continue;
      const Affine<T> y = folded(s, by_row_ ? T(1) : this->weight(j), by_row_ ? T(0) : this->bias(j));
      y_scale[j] = y.scale;
      shift[j] = y.shift;
    }
    const AffineColumns<T> y = {center, y_scale, shift, row_weight, by_row_ ? op_.bias : nullptr};
    const double* sums = nullptr;  // of h and h * xHat down each column
    if (sums_wanted_ && !op_.totals) {
      team.for_each(blocks_.units(), 1, [&](size_t from, size_t to, size_t) {
        for (size_t u = from; u < to; u++) {
          const size_t row = blocks_.first(u), rows = blocks_.rows(u);
          double* unit = memory.units + u * 2 * cols;
          for (size_t i = 0; i < 2 * cols; i++) unit[i] = 0;
          if (op_.gated) gate_rows(begin, row, row + rows, stats, y, careful);
          const S *dy_rows = dy + row * cols, *x_rows = x + row * cols;
          const T* weights = row_weight ? row_weight + row : nullptr;
          k_.grad_columns(dy_rows, x_rows, {rows, cols, cols}, center, scale, weights, unit, unit + cols);
          for (size_t i = 0; careful && i < rows * cols; i++) {
            const Statistic& s = stats[i % cols / g_.inner];
            if (!this->is_extreme(s)) continue;
            const double h = wide(dy_rows[i]) * (weights ? static_cast<double>(weights[i / cols]) : 1);
            unit[cols + i % cols] += h * x_hat_in_double(x_rows[i], s);
          }
        }
      });
      for (size_t step = 1; step < blocks_.units(); step *= 2) {
        for (size_t u = 0; u + step < blocks_.units(); u += 2 * step) {
          double *a = memory.units + u * 2 * cols, *b = a + step * 2 * cols;
          for (size_t j = 0; j < 2 * cols; j++) a[j] += b[j];
        }
      }
    } else if (op_.gated) {
      each_rows(team, g_.outer, cols * 3 * sizeof(S), false,
                [&](size_t from, size_t to) { gate_rows(begin, from, to, stats, y, careful); });
    }
    if (sums_wanted_) {
      double* total = by_row_ ? memory.columns : part;
      for (size_t j = 0; j < cols; j++) {
        const GradSums own = op_.totals ? this->own_of_total(j) : GradSums{memory.units[j], memory.units[cols + j]};
        if (op_.sums) {
          op_.sums[j] = own.dy;
          op_.sums[cols + j] = own.dy_xhat;
        }
        const GradSums s = this->with_rest(own, stats[j / g_.inner]);
        total[j] = s.dy;
        total[cols + j] = s.dy_xhat;
      }
      sums = total;
    }
    if (by_row_ && (op_.dweight || op_.dbias)) row_sums(begin, part, stats, center, scale, shift, careful, team);
    if (!op_.dx) return;
    for (size_t group = 0; group < g_.groups; group++) {
      GradSums h = {0, 0};
      const size_t first = group * g_.inner, last = first + g_.inner;
      for (size_t j = first; sums_wanted_ && j < last; j++) {
        const double w = by_row_ ? 1 : static_cast<double>(this->weight(j));
        const GradSums all =
            op_.totals ? this->with_rest(this->total(j), stats[group]) : GradSums{sums[j], sums[cols + j]};
        h.dy += all.dy * w;
        h.dy_xhat += all.dy_xhat * w;
      }
      const Statistic& s = stats[group];
      const Line f = memory.lines[group] = this->line(s, h);
      for (size_t j = first; j < last; j++) {
        const Slope<T> slope = slope_of<T>(s, f, by_row_ ? 1 : static_cast<double>(this->weight(j)));
        center[j] = op_.constant ? T(0) : slope.center;
        dy_factor[j] = slope.dy_factor;
        x_factor[j] = slope.x_factor;
        constant[j] = op_.constant ? T(0) : slope.constant;
      }
    }
    for (T* coefficient : {center, dy_factor, x_factor, constant}) layout_.repeat(coefficient);
    const bool backwards = sums_wanted_ && 2 * g_.outer * cols * sizeof(S) <= cpu::caches().l3;
    each_rows(team, g_.outer, cols * 3 * sizeof(S), backwards, [&](size_t from, size_t to) {
      const size_t at = from * cols;
      const SlopeColumns<T> f = {center, dy_factor, x_factor, constant, row_weight ? row_weight + from : nullptr};
      S* dx = op_.dx + begin + at;
      if (careful) {
        slope_with_care(begin + at, from, to, stats, memory.lines, f);
      } else if (op_.constant) {
        const AffineColumns<T> scaled = {center, dy_factor, constant, f.row_weight, nullptr};
        if (f.row_weight) {
          k_.apply_by_row(dx, dy + at, {to - from, cols, cols}, scaled, {nullptr, false});
        } else {
          k_.apply_columns(dx, dy + at, layout_.at(from, to - from), scaled, {nullptr, false}, stores_);
        }
      } else if (f.row_weight) {
        k_.slope_by_row(dx, dy + at, x + at, {to - from, cols, cols}, f);
      } else {
        k_.slope_columns(dx, dy + at, x + at, layout_.at(from, to - from), f, stores_);
      }
    });
  }

  void slope_with_care(size_t at, size_t from, size_t to, const Statistic* stats, const Line* lines,
                       const SlopeColumns<T>& f) const {
    const size_t cols = g_.stride();
    for (size_t i = 0; i < (to - from) * cols; i++) {
      const size_t j = i % cols;
      const Statistic& s = stats[j / g_.inner];
      if (this->is_extreme(s)) {
        this->put_in_double(at + i, s, lines[j / g_.inner], by_row_ ? this->weight(from + i / cols) : this->weight(j));
        continue;
      }
      const T g = value_of(dy_[at + i]), h = f.row_weight ? g * f.row_weight[i / cols] : g;
      const T of_x = (value_of(op_.x[at + i]) - f.center[j]) * f.x_factor[j];
      const T of_dy = h * f.dy_factor[j];
      op_.dx[at + i] = stored<S>(op_.constant ? of_dy + f.constant[j] : of_dy + of_x + f.constant[j]);
    }
  }

  // Where rows are channels: dy and dy * xHat along each of them.
  void row_sums(size_t begin, double* part, const Statistic* stats, const T* center, const T* scale, T* shift,
                bool careful, const parallel::Team& team) const {
    const size_t cols = g_.stride();
    for (size_t j = 0; j < cols; j++) shift[j] = this->x_hat_of(stats[j]).shift;
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
          if (this->is_extreme(stats[j])) sums.dy_xhat += wide(dy[j]) * x_hat_in_double(x[j], stats[j]);
        }
        part[row] = sums.dy;
        part[g_.channels + row] = sums.dy_xhat;
      }
    });
  }

  const Columns layout_;
  const bool by_row_;
  const ColumnBlocks blocks_;
  Stores stores_ = Stores::kCached;
};

}  // namespace

template <class S>
Status normalize_columns(const Kernels<S>& k, const Normalize<S>& op) {
  return ColumnsForward<S>(k, op).run();
}
template <class S>
Status backward_columns(const Kernels<S>& k, const Backward<S>& op) {
  return ColumnsBackward<S>(k, op).run();
}
SIMDNORM_KIND(columns)

}  // namespace simdnorm
