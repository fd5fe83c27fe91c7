// Rows with a statistic each and a weight for each element: LayerNorm, RMSNorm, and GroupNorm of (N, C).
//
// A row that a kernel can take whole is read once; a longer one goes in blocks, twice.
#include <string.h>

#include "native/ops/kinds.h"

namespace simdnorm {
namespace {

// Weights or biases as far behind a line's begin as the data, so that both are read by whole lines: 512 rows of 1024
// take 0.88 of the time, 64 of 768 0.92. Fewer rows, or shorter ones, are not worth the copy.
template <class T>
class Parameter {
 public:
  template <class S>
  Parameter(const T* own, const Geometry& g, const S* data)
      : own_(own), copy_(own && worth(own, g, data) ? g.channels + kVector : 0) {
    if (!copy_.get()) return;
    own_ = static_cast<const T*>(memcpy(copy_.get() + behind_line(data), own, g.channels * sizeof(T)));
  }
  bool ok() const { return copy_.ok(); }
  const T* of(size_t group, size_t inner) const { return own_ ? own_ + group * inner : nullptr; }

 private:
  template <class S>
  static bool worth(const T* own, const Geometry& g, const S* data) {
    return g.batch >= 64 && g.inner >= 512 && g.inner <= kBlock && g.inner % kVector == 0 &&
           behind_line(own) != behind_line(data);
  }
  const T* own_;
  const Scratch<T> copy_;
};

template <class S>
class ElementsForward : ForwardBase<S> {
  using Base = ForwardBase<S>;
  using Base::bytes_, Base::g_, Base::k_, Base::op_;
  using typename Base::T;

 public:
  ElementsForward(const Kernels<S>& k, const Normalize<S>& op)
      : Base(k, op), blocks_(row_blocks(g_, bytes_)), weight_(op.weight, g_, op.y), bias_(op.bias, g_, op.y) {}

  Status run() {
    const Teams teams(this->alone(), g_.batch);
    const Scratch<Moments> units(teams.across ? 0 : blocks_.units());
    if (!units.ok() || !weight_.ok() || !bias_.ok()) return Status::kOutOfMemory;
    stores_ = this->stores(g_.inner * sizeof(S), teams.all.size());
    const bool whole = g_.inner <= kBlock && !op_.use_running;
    const size_t grain = teams.outside().grain(g_.batch, bytes_ / at_least(1, g_.batch));
    teams.outside().for_each(g_.batch, grain, [&](size_t from, size_t to, size_t) {
      for (size_t group = 0; group < g_.groups; group++) {
        for (size_t b = from; b < to; b++) {
          if (whole) b += rows(b, to, group);
          if (b < to) row(b * g_.groups + group, teams.inside(), units.get());
        }
      }
    });
    return Status::kOk;
  }

 private:
  const T* weights(size_t group) const { return weight_.of(group, g_.inner); }
  const T* biases(size_t group) const { return bias_.of(group, g_.inner); }

  // As many of one group's rows as a kernel can do.
  size_t rows(size_t from, size_t to, size_t group) const {
    const size_t s = from * g_.groups + group, at = g_.begin(s);
    return k_.normalize_rows(op_.y + at, op_.x + at, {to - from, g_.inner, g_.stride()}, op_.rule, weights(group),
                             biases(group), this->finish_at(at), op_.saved ? op_.saved + s : nullptr, g_.groups,
                             stores_);
  }

  // Any row.
  void row(size_t index, const parallel::Team& team, Moments* units) const {
    const size_t begin = g_.begin(index), group = index % g_.groups;
    const Statistic s = statistic(index, team, units);
    if (op_.saved) op_.saved[index] = s;
    const bool careful = this->is_extreme(s);
    team.for_each(g_.inner, team.grain(g_.inner, this->streams() * sizeof(S)), [&](size_t from, size_t to, size_t) {
      const size_t at = begin + from;
      if (careful) {
        for (size_t i = from; i < to; i++) this->put_in_double(begin + i, s, group * g_.inner + i);
        return;
      }
      const T *weight = weights(group), *bias = biases(group);
      k_.apply_elements(op_.y + at, op_.x + at, to - from, folded(s, T(1), T(0)), weight ? weight + from : nullptr,
                        bias ? bias + from : nullptr, this->finish_at(at), stores_);
    });
  }
  Statistic statistic(size_t index, const parallel::Team& team, Moments* units) const {
    if (op_.use_running) return this->running(index);
    const S* x = op_.x + g_.begin(index);
    const Moments m = reduce_rows(k_, x, blocks_, op_.rule.about, team, units);
    return statistic_of(m, op_.rule, x, g_.stride(), g_.outer, g_.inner);
  }

  const Blocks blocks_;
  const Parameter<T> weight_, bias_;
  Stores stores_ = Stores::kCached;
};

// ---- back ----

constexpr size_t kChunk = 2 * kFloatChain;  // rows a kernel goes back through at a time: whole tiles, and whole chains
constexpr size_t kPartElements = 1 << 15;   // elements worth parameter gradients of their own
constexpr size_t kParts = 32;               // most of them
constexpr size_t kLongTogether = 8, kFewTogether = 4;  // long rows that are summed before their dx
static_assert(kChunk % kVector == 0, "whole tiles");
template <class S>
class ElementsBackward : BackwardBase<S> {
  using Base = BackwardBase<S>;
  using Base::bytes_, Base::dy_, Base::g_, Base::k_, Base::op_, Base::sums_wanted_;
  using typename Base::T;

 public:
  ElementsBackward(const Kernels<S>& k, const Backward<S>& op)
      : Base(k, op),
        blocks_(1, g_.inner, 0, bytes_),
        weight_(op.weight, g_, dy_),
        parameters_(op.dweight || op.dbias) {}

  Status run() {
    if (!weight_.ok()) return Status::kOutOfMemory;
    const parallel::Team team(this->alone());
    stores_ = this->stores(g_.inner * sizeof(S), team.size());
    return g_.inner <= kBlock ? whole_rows(team) : long_rows(team);
  }

 private:
  const T* weights(size_t group) const { return weight_.of(group, g_.inner); }

  // Elements [from, to) of one row.
  void gate(size_t index, size_t from, size_t to) const {
    const Statistic& s = op_.saved[index];
    const size_t begin = g_.begin(index), first = index % g_.groups * g_.inner, at = begin + from;
    if (!this->is_extreme(s)) {
      k_.gate_elements(op_.gated + at, op_.dy + at, op_.x + at, to - from, folded(s, T(1), T(0)),
                       op_.weight ? op_.weight + first + from : nullptr, op_.bias ? op_.bias + first + from : nullptr,
                       this->add_at(at));
      return;
    }
    for (size_t i = from; i < to; i++) this->open_in_double(begin + i, s, first + i);
  }

  // Sums of h and h * xHat over elements [from, to) of one row; dy and dy * xHat are added to the lanes of `sums`,
  // which begin with element `from`, or where they need double to the sums themselves.
  GradSums row_sums(size_t index, size_t from, size_t to, const ParameterSums<T>& sums, size_t ahead) const {
    const Statistic& s = op_.saved[index];
    const size_t begin = g_.begin(index), first = index % g_.groups * g_.inner, at = begin + from;
    if (!this->is_extreme(s)) {
      return k_.grad_elements(dy_ + at, op_.x + at, to - from, folded(s, T(1), T(0)),
                              op_.weight ? op_.weight + first + from : nullptr, sums.lanes_dy, sums.lanes_dy_xhat,
                              ahead);
    }
    GradSums h = {0, 0};
    for (size_t i = from; i < to; i++) {
      const double g = wide(dy_[begin + i]), x_hat = x_hat_in_double(op_.x[begin + i], s);
      if (sums.dy) sums.dy[i - from] += g;
      if (sums.dy_xhat) sums.dy_xhat[i - from] += g * x_hat;
      h.dy += g * static_cast<double>(this->weight(first + i));
      h.dy_xhat += g * static_cast<double>(this->weight(first + i)) * x_hat;
    }
    return h;
  }

  // dx of elements [from, to) of one row.
  void slope(size_t index, size_t from, size_t to, const Line& f, size_t ahead) const {
    const Statistic& s = op_.saved[index];
    const size_t begin = g_.begin(index), first = index % g_.groups * g_.inner, at = begin + from;
    if (this->is_extreme(s) || op_.constant) {
      for (size_t i = from; i < to; i++) this->put_in_double(begin + i, s, f, this->weight(first + i));
      return;
    }
    k_.slope_elements(op_.dx + at, dy_ + at, op_.x + at, to - from, slope_of<T>(s, f, 1),
                      op_.weight ? op_.weight + first + from : nullptr, stores_, ahead);
  }

  // From channel `first` on.
  static ParameterSums<T> part(const ParameterSums<T>& s, size_t first) {
    const auto at = [&](auto* p) { return p ? p + first : nullptr; };
    return {at(s.dy), at(s.dy_xhat), at(s.lanes_dy), at(s.lanes_dy_xhat)};
  }
  void drain(const ParameterSums<T>& sums, size_t n) const {
    if (sums.dy) k_.drain(sums.dy, sums.lanes_dy, n);
    if (sums.dy_xhat) k_.drain(sums.dy_xhat, sums.lanes_dy_xhat, n);
  }

  // Memory for the sums of n channels, [2][n], and for their lanes, which begin as far behind a line's begin as dy:
  // both then are read and written by whole lines.
  size_t sums_size(size_t n) const { return parameters_ ? 2 * n : 0; }
  size_t lanes_size(size_t n) const { return parameters_ ? 2 * lanes_each(n) : 0; }
  static size_t lanes_each(size_t n) { return ceil_div(n, kVector) * kVector + kVector; }
  ParameterSums<T> sums_in(double* sums, T* lanes, size_t n, const S* dy) const {
    const size_t off = behind_line(dy);
    ParameterSums<T> s = {};
    if (op_.dbias) {
      s.dy = sums;
      s.lanes_dy = lanes + off;
    }
    if (op_.dweight) {
      s.dy_xhat = sums + n;
      s.lanes_dy_xhat = lanes + lanes_each(n) + off;
    }
    return s;
  }

  // ---- rows that a kernel takes whole: threads share the rows, in parts with sums of their own ----

  Status whole_rows(const parallel::Team& team) const {
    const size_t wanted = at_least(ceil_div(g_.batch, kParts), ceil_div(kPartElements, at_least(1, g_.channels)));
    const size_t rows = ceil_div(wanted, kChunk) * kChunk, count = ceil_div(g_.batch, rows), n = 2 * g_.channels;
    const size_t own_lanes = lanes_size(g_.channels);
    const Scratch<double> parts(count * sums_size(g_.channels));
    const Scratch<T> lanes(team.size() * own_lanes);
    if (!parts.ok() || !lanes.ok()) return Status::kOutOfMemory;
    for (size_t i = 0; i < team.size() * own_lanes; i++) lanes.get()[i] = 0;
    team.for_each(count, 1, [&](size_t from, size_t to, size_t worker) {
      for (size_t part = from; part < to; part++) {
        double* sums = parts.get() + part * n;
        for (size_t i = 0; parameters_ && i < n; i++) sums[i] = 0;
        const size_t end = at_most(g_.batch, (part + 1) * rows);
        for (size_t row = part * rows; row < end; row += kChunk) {
          chunk(row, at_most(end, row + kChunk), sums_in(sums, lanes.get() + worker * own_lanes, g_.channels, dy_));
        }
      }
    });
    this->add_parts(parts.get(), count);
    return Status::kOk;
  }

  // All groups of rows [from, to) of the batch.
  void chunk(size_t from, size_t to, const ParameterSums<T>& sums) const {
    for (size_t i = from * g_.groups; op_.gated && i < to * g_.groups; i++) gate(i, 0, g_.inner);
    for (size_t group = 0; group < g_.groups; group++) {
      for (size_t b = from; b < to; b++) {
        if (!op_.constant) b += rows(b, to, group, sums);
        if (b < to) row(b * g_.groups + group, sums);
      }
    }
  }
  // As many of one group's rows as a kernel can do.
  size_t rows(size_t from, size_t to, size_t group, const ParameterSums<T>& sums) const {
    const size_t s = from * g_.groups + group, at = g_.begin(s);
    return k_.backward_rows(op_.dx ? op_.dx + at : nullptr, dy_ + at, op_.x + at, {to - from, g_.inner, g_.stride()},
                            op_.about, weights(group), op_.saved + s, g_.groups, part(sums, group * g_.inner), stores_);
  }
  // Any row.
  void row(size_t index, const ParameterSums<T>& sums) const {
    const size_t first = index % g_.groups * g_.inner;
    const ParameterSums<T> own = part(sums, first);
    const GradSums h = row_sums(index, 0, g_.inner, own, 0);
    drain(own, g_.inner);
    if (op_.dx) slope(index, 0, g_.inner, this->line(op_.saved[index], h), 0);
  }

  // ---- longer rows: threads share their blocks ----

  // How many rows are summed before their dx: as many as stay in L3 meanwhile; or all of them, where that is too few to
  // gain anything (docs/performance.md).
  size_t rows_together() const {
    const size_t in_cache = cpu::caches().l3 / 2 / (2 * sizeof(S) * g_.inner);
    return in_cache < kFewTogether ? g_.batch : at_most(g_.batch, at_most(kLongTogether, in_cache));
  }

  // Where the parameter gradients of blocks are summed: each thread has memory for the block that it is at, whose rows
  // all come at once; or there is memory for all channels, whose rows come bit by bit.
  struct BlockSums {
    bool by_thread;
    size_t length;
    double* sums;
    T* lanes;
  };
  ParameterSums<T> sums_of_block(const BlockSums& all, size_t channel, size_t worker) const {
    const size_t copy = all.by_thread ? worker : 0;
    const ParameterSums<T> s =
        sums_in(all.sums + copy * sums_size(all.length), all.lanes + copy * lanes_size(all.length), all.length,
                all.by_thread ? dy_ + channel : dy_);
    return all.by_thread ? s : part(s, channel);
  }

  Status long_rows(const parallel::Team& team) const {
    const size_t blocks = blocks_.count(), together = rows_together();
    const bool by_thread = together == g_.batch && team.size() * kBlock < g_.channels;
    const size_t length = by_thread ? kBlock : g_.channels, copies = by_thread ? team.size() : 1;
    const Scratch<double> sums(copies * sums_size(length));
    const Scratch<T> lanes(copies * lanes_size(length));
    const Scratch<GradSums> partial(together * blocks);
    const Scratch<Line> lines(together);
    if (!sums.ok() || !lanes.ok() || !partial.ok() || !lines.ok()) return Status::kOutOfMemory;
    for (size_t i = 0; i < copies * sums_size(length); i++) sums.get()[i] = 0;
    for (size_t i = 0; i < copies * lanes_size(length); i++) lanes.get()[i] = 0;
    const BlockSums all = {by_thread, length, sums.get(), lanes.get()};

    const size_t bytes = kBlock * 3 * sizeof(S);  // of a block of one row
    for (size_t group = 0; group < g_.groups; group++) {
      for (size_t b = 0; b < g_.batch; b += together) {
        const size_t rows = at_most(together, g_.batch - b);
        const auto index = [&](size_t row) { return (b + row) * g_.groups + group; };
        const auto ahead = [&](size_t row) { return row + 1 < rows ? g_.stride() : 0; };
        team.for_each(blocks, team.grain(blocks, rows * bytes), [&](size_t from, size_t to, size_t worker) {
          for (size_t i = from; i < to; i++) {
            const size_t start = blocks_[i].offset, n = blocks_[i].n, channel = group * g_.inner + start;
            const ParameterSums<T> own = sums_of_block(all, channel, worker);
            for (size_t row = 0; row < rows; row++) {
              if (op_.gated) gate(index(row), start, start + n);
              if (!sums_wanted_) continue;
              partial.get()[row * blocks + i] = row_sums(index(row), start, start + n, own, ahead(row));
              if ((b + row + 1) % kFloatChain == 0 || b + row + 1 == g_.batch) drain(own, n);
            }
            if (by_thread) this->move_to_gradients(own.dy, own.dy_xhat, channel, n);
          }
        });
        if (!op_.dx) continue;
        for (size_t row = 0; row < rows; row++)
          lines.get()[row] = line_of_parts(index(row), partial.get() + row * blocks);
        // All rows of one block after the other: its weight is read once.
        team.for_each(rows * blocks, team.grain(rows * blocks, bytes), [&](size_t from, size_t to, size_t) {
          for (size_t i = from; i < to; i++) {
            const size_t row = i % rows, start = blocks_[i / rows].offset;
            slope(index(row), start, start + blocks_[i / rows].n, lines.get()[row], ahead(row));
          }
        });
      }
    }
    if (!by_thread) this->add_parts(sums.get(), 1);
    return Status::kOk;
  }

  Line line_of_parts(size_t index, const GradSums* parts) const {
    GradSums h = {0, 0};
    for (size_t i = 0; sums_wanted_ && i < blocks_.count(); i++) {
      h.dy += parts[i].dy;
      h.dy_xhat += parts[i].dy_xhat;
    }
    return this->line(op_.saved[index], h);
  }

  const Blocks blocks_;
  const Parameter<T> weight_;
  const bool parameters_;
  Stores stores_ = Stores::kCached;
};

}  // namespace

template <class S>
Status normalize_elements(const Kernels<S>& k, const Normalize<S>& op) {
  return ElementsForward<S>(k, op).run();
}
template <class S>
Status backward_elements(const Kernels<S>& k, const Backward<S>& op) {
  return ElementsBackward<S>(k, op).run();
}
SIMDNORM_KIND(elements)

}  // namespace simdnorm
