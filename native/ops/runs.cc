// A run of elements for each channel: BatchNorm, InstanceNorm and GroupNorm of contiguous memory.
//
// Neighbouring statistics go together as a slab that stays in L2 between its sums and what is made of them, so that
// memory is read once and written once; in evaluation mode everything is one slab.
#include "native/ops/kinds.h"

namespace simdnorm {
namespace {

constexpr size_t kShortRun = 2048;  // bytes; longer runs gain nothing from company

// Statistics [first, first + count) of one batch item, for each of `outer` a stretch of runs without gaps.
struct Slab {
  size_t first, count;
  size_t begin;    // its first element
  size_t channel;  // its first channel
  size_t runs;     // of one stretch
};

class Slabs {
 public:
  // `bytes` of the slab are kept per element. As many short runs together as L2 takes, but not so many that slabs are
  // too few for the threads: with 7 slabs, 16 threads took as long as one.
  Slabs(const Geometry& g, size_t bytes, size_t threads) : g_(g) {
    const size_t own = at_least(1, g.count() * bytes), l2 = cpu::caches().l2;
    const size_t shared = threads > 1 ? g.statistics() / (kItemsEach * threads) : g.groups;
    const bool company = g.run * bytes < kShortRun;
    together_ = company ? at_most(g.groups, at_least(1, at_most(l2 / 2 / own, shared))) : 1;
    two_fit_ = 2 * together_ * own <= l2;
    per_item_ = ceil_div(g.groups, together_);
  }
  size_t count() const { return g_.batch * per_item_; }
  size_t most() const { return together_; }  // statistics of one
  // While one slab is written the next is fetched, where L2 holds both: how far behind an element lies the next slab's,
  // 0 for none. 32x64x56x56 in training takes 0.9 of the time.
  size_t ahead(const Slab& slab) const {
    const bool last = slab.first % g_.groups + slab.count == g_.groups;
    return last || !two_fit_ ? 0 : slab.runs * g_.run;
  }
  // Otherwise what was read last is taken first, as L2 may have lost the rest: back through the same, 0.85.
  bool backwards() const { return !two_fit_; }
  Slab operator[](size_t i) const {
    const size_t group = i % per_item_ * together_, count = at_most(together_, g_.groups - group);
    const size_t first = i / per_item_ * g_.groups + group, each = g_.channels_per_group();
    return {first, count, g_.begin(first), group * each, count * each};
  }

 private:
  const Geometry& g_;
  size_t together_, per_item_;
  bool two_fit_;
};

// f(at, n, run, runs) for elements [from, to) of a slab's stretches, one after the other: `runs` whole runs of n
// elements from element `at` of the tensor on, or a part of one; `run` counts from the slab's first. `backwards`: whole
// stretches, the last one first.
template <class F>
void each_run(const Geometry& g, const Slab& slab, size_t from, size_t to, bool backwards, F f) {
  const size_t stretch = slab.runs * g.run;
  if (backwards && to - from > stretch && from % stretch == 0 && to % stretch == 0) {
    for (; to > from; to -= stretch) each_run(g, slab, to - stretch, to, false, f);
    return;
  }
  while (from < to) {
    const size_t in = from % stretch, run = in / g.run, inside = in % g.run;
    const size_t at = slab.begin + from / stretch * g.stride() + in;
    const size_t left = at_most(stretch - in, to - from);
    if (inside == 0 && left >= g.run) {
      const size_t runs = left / g.run;
      f(at, g.run, run, runs);
      from += runs * g.run;
    } else {
      const size_t n = at_most(g.run - inside, left);
      f(at, n, run, size_t(1));
      from += n;
    }
  }
}

template <class S>
class RunsForward : ForwardBase<S> {
  using Base = ForwardBase<S>;
  using Base::bytes_, Base::g_, Base::k_, Base::op_;
  using typename Base::T;

 public:
  RunsForward(const Kernels<S>& k, const Normalize<S>& op)
      : Base(k, op), slabs_(g_, sizeof(S), parallel::Team(this->alone()).size()), blocks_(row_blocks(g_, bytes_)) {}

  Status run() {
    if (op_.use_running) return evaluate();
    const Teams teams(this->alone(), slabs_.count());
    const size_t each = slabs_.most() * g_.channels_per_group();
    const Scratch<Affine<T>> coefficients(each * teams.workers());
    const Scratch<Moments> units(teams.across ? 0 : blocks_.units());
    if (!coefficients.ok() || !units.ok()) return Status::kOutOfMemory;
    const size_t items = slabs_.count(), grain = teams.outside().grain(items, bytes_ / at_least(1, items));
    stores_ = this->stores(g_.run * sizeof(S), teams.all.size());
    teams.outside().for_each(items, grain, [&](size_t from, size_t to, size_t worker) {
      for (size_t i = from; i < to; i++) {
        const Slab slab = slabs_[i];
        for (size_t s = slab.first; s < slab.first + slab.count; s++) {
          const S* x = op_.x + g_.begin(s);
          const Moments m = reduce_rows(k_, x, blocks_, op_.rule.about, teams.inside(), units.get());
          op_.saved[s] = statistic_of(m, op_.rule, x, g_.stride(), g_.outer, g_.inner);
        }
        apply(slab, coefficients.get() + each * worker, teams.inside());
      }
    });
    return Status::kOk;
  }

 private:
  Status evaluate() {
    const parallel::Team team(this->alone());
    const Scratch<Affine<T>> coefficients(g_.channels);
    if (!coefficients.ok()) return Status::kOutOfMemory;
    stores_ = this->stores(g_.run * sizeof(S), team.size());
    this->use_running(op_.saved);
    for (size_t b = 0; b < g_.batch; b++) {
      apply({b * g_.groups, g_.groups, g_.begin(b * g_.groups), 0, g_.channels}, coefficients.get(), team);
    }
    return Status::kOk;
  }

  // y of a slab whose statistics are known.
  void apply(const Slab& slab, Affine<T>* f, const parallel::Team& team) const {
    bool careful = false;
    for (size_t run = 0; run < slab.runs; run++) {
      const Statistic& s = statistic(slab, run);
      f[run] = folded(s, this->weight(slab.channel + run), this->bias(slab.channel + run));
      careful = careful || this->is_extreme(s);
    }
    const size_t elements = g_.outer * slab.runs * g_.run, ahead = slabs_.ahead(slab);
    const size_t grain = team.grain(elements, this->streams() * sizeof(S));
    team.for_each(elements, grain, [&](size_t from, size_t to, size_t) {
      each_run(g_, slab, from, to, slabs_.backwards(), [&](size_t at, size_t n, size_t run, size_t runs) {
        if (!careful) {
          k_.apply_runs(op_.y + at, op_.x + at, n, runs, f + run, this->finish_at(at), stores_, ahead);
          return;
        }
        for (size_t i = 0; i < runs; i++, at += n) {
          const Statistic& s = statistic(slab, run + i);
          if (!this->is_extreme(s)) {
            k_.apply_runs(op_.y + at, op_.x + at, n, 1, f + run + i, this->finish_at(at), stores_, ahead);
            continue;
          }
          for (size_t e = at; e < at + n; e++) this->put_in_double(e, s, slab.channel + run + i);
        }
      });
    });
  }
  const Statistic& statistic(const Slab& slab, size_t run) const {
    return op_.saved[slab.first + run / g_.channels_per_group()];
  }

  const Slabs slabs_;
  const Blocks blocks_;
  Stores stores_ = Stores::kCached;
};

template <class S>
class RunsBackward : BackwardBase<S> {
  using Base = BackwardBase<S>;
  using Base::bytes_, Base::dy_, Base::g_, Base::k_, Base::op_, Base::sums_wanted_;
  using typename Base::T;

 public:
  RunsBackward(const Kernels<S>& k, const Backward<S>& op)
      : Base(k, op),
        slabs_(g_, 2 * sizeof(S), parallel::Team(this->alone()).size()),
        blocks_(g_.outer, g_.run, g_.stride(), bytes_) {}

  Status run() {
    const Teams teams(this->alone(), slabs_.count());
    const size_t items = slabs_.count(), each = slabs_.most() * g_.channels_per_group();
    const Scratch<double> parts(sums_wanted_ ? g_.batch * 2 * g_.channels : 0);
    const Scratch<GradSums> units(teams.across ? 0 : blocks_.units());
    const Scratch<Affine<T>> gates(op_.gated ? each * teams.workers() : 0);
    const Scratch<Slope<T>> slopes(each * teams.workers());
    const Scratch<Line> lines(slabs_.most() * teams.workers());
    if (!parts.ok() || !units.ok() || !gates.ok() || !slopes.ok() || !lines.ok()) return Status::kOutOfMemory;
    stores_ = this->stores(g_.run * sizeof(S), teams.all.size());
    const size_t grain = teams.outside().grain(items, bytes_ / at_least(1, items));
    teams.outside().for_each(items, grain, [&](size_t from, size_t to, size_t worker) {
      for (size_t i = from; i < to; i++) {
        const Slab slab = slabs_[i];
        double* part = parts.get() + slab.first / g_.groups * 2 * g_.channels;
        Affine<T>* gate = gates.get() + each * worker;
        for (size_t run = 0; op_.gated && run < slab.runs; run++) {
          gate[run] = folded(statistic(slab, run), this->weight(slab.channel + run), this->bias(slab.channel + run));
        }
        Line* line = lines.get() + slabs_.most() * worker;
        for (size_t s = 0; s < slab.count; s++) {
          line[s] = this->line(op_.saved[slab.first + s], sums(slab, s, part, gate, teams.inside(), units.get()));
        }
        if (op_.dx || (op_.gated && !sums_wanted_)) {
          slope(slab, line, slopes.get() + each * worker, gate, teams.inside());
        }
      }
    });
    this->add_parts(parts.get(), g_.batch);
    return Status::kOk;
  }

 private:
  const Statistic& statistic(const Slab& slab, size_t run) const {
    return op_.saved[slab.first + run / g_.channels_per_group()];
  }

  // What the ReLU of `runs` runs from element `at` on let through.
  void gate(size_t at, size_t n, const Slab& slab, size_t run, size_t runs, const Affine<T>* f) const {
    for (size_t i = 0; i < runs; i++, at += n) {
      const Statistic& s = statistic(slab, run + i);
      if (!this->is_extreme(s)) {
        k_.gate_runs(op_.gated + at, op_.dy + at, op_.x + at, n, 1, f + run + i, this->add_at(at));
        continue;
      }
      for (size_t e = at; e < at + n; e++) this->open_in_double(e, s, slab.channel + run + i);
    }
  }

  // Sums of h and h * xHat over one statistic; those of its channels go to `part`.
  GradSums sums(const Slab& slab, size_t index, double* part, const Affine<T>* gates, const parallel::Team& team,
                GradSums* units) const {
    GradSums h = {0, 0};
    if (!sums_wanted_) return h;
    const size_t each = g_.channels_per_group();
    for (size_t run = index * each; run < (index + 1) * each; run++) {
      const size_t channel = slab.channel + run;
      const Statistic& s = statistic(slab, run);
      const GradSums own = op_.totals ? this->own_of_total(channel) : channel_sums(slab, run, gates, team, units);
      if (op_.sums) {
        op_.sums[channel] = own.dy;
        op_.sums[g_.channels + channel] = own.dy_xhat;
      }
      const GradSums of_channel = this->with_rest(own, s);
      part[channel] = of_channel.dy;
      part[g_.channels + channel] = of_channel.dy_xhat;
      const GradSums all = op_.totals ? this->with_rest(this->total(channel), s) : of_channel;
      h.dy += all.dy * static_cast<double>(this->weight(channel));
      h.dy_xhat += all.dy_xhat * static_cast<double>(this->weight(channel));
    }
    return h;
  }

  GradSums channel_sums(const Slab& slab, size_t run, const Affine<T>* gates, const parallel::Team& team,
                        GradSums* units) const {
    const Statistic& s = statistic(slab, run);
    const size_t begin = slab.begin + run * g_.run;
    const S *dy = dy_ + begin, *x = op_.x + begin;
    const bool careful = this->is_extreme(s);
    const Affine<T> f = this->x_hat_of(s);
    const auto unit_of = [&](size_t unit) {
      GradSums sums = {0, 0};
      blocks_.each(unit, [&](Blocks::Block b) {
        for (size_t p = 0; op_.gated && p < b.pieces; p++) {
          gate(begin + b.offset + p * g_.stride(), b.n, slab, run, 1, gates);
        }
        const GradSums part =
            k_.grad_sums(dy + b.offset, x + b.offset, g_.stride(), b.pieces, b.n, f.center, f.scale, blocks_.ahead());
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
    return sum_units(blocks_, team, units, unit_of);
  }

  void slope(const Slab& slab, const Line* lines, Slope<T>* f, const Affine<T>* gates,
             const parallel::Team& team) const {
    const auto line = [&](size_t run) { return lines[run / g_.channels_per_group()]; };
    bool careful = false;
    for (size_t run = 0; run < slab.runs; run++) {
      const Statistic& s = statistic(slab, run);
      f[run] = slope_of<T>(s, line(run), static_cast<double>(this->weight(slab.channel + run)));
      careful = careful || this->is_extreme(s);
    }
    const size_t elements = g_.outer * slab.runs * g_.run, ahead = slabs_.ahead(slab);
    team.for_each(elements, team.grain(elements, 3 * sizeof(S)), [&](size_t from, size_t to, size_t) {
      each_run(g_, slab, from, to, slabs_.backwards(), [&](size_t at, size_t n, size_t run, size_t runs) {
        if (op_.gated && !sums_wanted_) gate(at, n, slab, run, runs, gates);
        if (!op_.dx) return;
        if (!careful && !op_.constant) {
          k_.slope_runs(op_.dx + at, dy_ + at, op_.x + at, n, runs, f + run, stores_, ahead);
          return;
        }
        for (size_t i = 0; i < runs; i++, at += n) {
          const Statistic& s = statistic(slab, run + i);
          if (this->is_extreme(s)) {
            const T w = this->weight(slab.channel + run + i);
            for (size_t e = at; e < at + n; e++) this->put_in_double(e, s, line(run + i), w);
          } else if (op_.constant) {
            const Affine<T> scaled = {T(0), f[run + i].dy_factor, T(0)};
            k_.apply_runs(op_.dx + at, dy_ + at, n, 1, &scaled, {nullptr, false}, stores_, 0);
          } else {
            k_.slope_runs(op_.dx + at, dy_ + at, op_.x + at, n, 1, f + run + i, stores_, ahead);
          }
        }
      });
    });
  }

  const Slabs slabs_;
  const Blocks blocks_;
  Stores stores_ = Stores::kCached;
};

}  // namespace

template <class S>
Status normalize_runs(const Kernels<S>& k, const Normalize<S>& op) {
  return RunsForward<S>(k, op).run();
}
template <class S>
Status backward_runs(const Kernels<S>& k, const Backward<S>& op) {
  return RunsBackward<S>(k, op).run();
}
SIMDNORM_KIND(runs)

}  // namespace simdnorm
