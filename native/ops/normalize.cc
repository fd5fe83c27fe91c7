#include "native/ops/normalize.h"

#include "native/ops/output.h"
#include "native/parallel/float_environment.h"

namespace simdnorm {
namespace {

template <class S>
class Forward {
 public:
  using T = Value<S>;
  Forward(const Kernels<S>& k, const Normalize<S>& op) : k_(k), op_(op), g_(op.g), blocks_(row_blocks(op.g)) {}

  Status run() {
    const size_t bytes = g_.elements() * streams() * sizeof(S);
    const bool alone = bytes < kAloneBytes;
    const parallel::Team solo(true), team(alone);
    const size_t items = g_.columns() ? g_.batch : g_.statistics();
    // Whole items side by side where there are enough of them, otherwise one item after the other by all threads. The
    // parts of a sum are the same either way.
    const bool across = team.size() == 1 || items >= 2 * team.size();
    const parallel::Team &outside = across ? team : solo, &inside = across ? solo : team;

    const size_t workers = across ? team.size() : 1;
    const size_t cols = g_.columns() ? g_.stride() : 0;
    const size_t units = op_.use_running ? 0 : g_.columns() ? ColumnBlocks(g_.outer, cols).units() : blocks_.units();
    const Scratch<Statistic> own(op_.saved ? 0 : g_.statistics());
    const Scratch<double> column_units(cols * 4 * units * workers);
    const Scratch<Moments> moments((g_.columns() ? g_.groups : across ? 0 : units) * workers);
    const Scratch<T> coefficients(cols * 3 * workers);
    if (!own.ok() || !column_units.ok() || !moments.ok() || !coefficients.ok()) return Status::kOutOfMemory;
    stats_ = op_.saved ? op_.saved : own.get();

    const FloatEnvironment environment;
    if (op_.use_running) {
      for (size_t c = 0; c < g_.groups; c++) {
        for (size_t b = 0; b < g_.batch; b++) {
          stats_[b * g_.groups + c] = statistic_of_running(op_.running_mean[c], op_.running_var[c], op_.rule);
        }
      }
    }
    outside.for_each(items, outside.grain(items, bytes / at_least(1, items)),
                     [&](size_t begin, size_t end, size_t worker) {
                       for (size_t i = begin; i < end; i++) {
                         if (g_.columns()) {
                           columns(i, inside, column_units.get() + cols * 4 * units * worker,
                                   moments.get() + g_.groups * worker, coefficients.get() + cols * 3 * worker);
                         } else {
                           rows(i, inside, moments.get());
                         }
                       }
                     });
    if (!op_.use_running && (op_.running_mean || op_.running_var) && g_.elements() > 0) {
      update_running(g_, stats_, nullptr, op_.momentum, op_.running_mean, op_.running_var);
    }
    return Status::kOk;
  }

 private:
  T weight(size_t channel) const { return op_.weight ? op_.weight[channel] : T(1); }
  T bias(size_t channel) const { return op_.bias ? op_.bias[channel] : T(0); }
  size_t streams() const { return op_.finish.add ? 3 : 2; }
  Finish<S> finish_at(size_t i) const { return {op_.finish.add ? op_.finish.add + i : nullptr, op_.finish.relu}; }
  // y[i] of what comes before the ReLU.
  template <class V>
  void put(size_t i, V y) {
    op_.y[i] = stored<S>(static_cast<T>(op_.finish.relu && y < 0 ? 0 : y));
  }
  bool is_extreme(const Statistic& s) const { return extreme<T>(s, static_cast<double>(g_.count())); }

  // One (batch, group) whose data run along memory.
  void rows(size_t s, const parallel::Team& team, Moments* units) {
    const size_t begin = g_.begin(s);
    if (!op_.use_running) {
      const Moments m = reduce_rows(k_, op_.x + begin, blocks_, op_.rule.about, team, units);
      stats_[s] = statistic_of(m, op_.rule, op_.x + begin, g_.stride(), g_.outer, g_.inner);
    }
    const Statistic stat = stats_[s];
    const bool careful = is_extreme(stat);
    const size_t first_channel = s % g_.groups * g_.channels_per_group();
    const size_t pieces = g_.outer * g_.channels_per_group();
    if (g_.run > 1) {
      team.for_each(pieces, team.grain(pieces, g_.run * streams() * sizeof(S)), [&](size_t from, size_t to, size_t) {
        for (size_t i = from; i < to; i++) {
          const size_t channel = first_channel + i % g_.channels_per_group();
          const size_t at = begin + i / g_.channels_per_group() * g_.stride() + i % g_.channels_per_group() * g_.run;
          if (careful) {
            for (size_t e = at; e < at + g_.run; e++) {
              put(e, y_in_double(op_.x[e], stat, weight(channel), bias(channel), finish_at(e).add));
            }
          } else {
            k_.apply(op_.y + at, op_.x + at, g_.run, folded(stat, weight(channel), bias(channel)), finish_at(at));
          }
        }
      });
      return;
    }
    // One weight per element, outer is 1.
    const Affine<T> f = folded(stat, T(1), T(0));
    team.for_each(g_.inner, team.grain(g_.inner, streams() * sizeof(S)), [&](size_t from, size_t to, size_t) {
      const size_t at = begin + from, channel = first_channel + from;
      if (careful) {
        for (size_t i = 0; i < to - from; i++) {
          put(at + i, y_in_double(op_.x[at + i], stat, weight(channel + i), bias(channel + i), finish_at(at + i).add));
        }
      } else {
        k_.apply_elements(op_.y + at, op_.x + at, to - from, f, op_.weight ? op_.weight + channel : nullptr,
                          op_.bias ? op_.bias + channel : nullptr, finish_at(at));
      }
    });
  }

  // One batch item whose channels lie side by side.
  void columns(size_t b, const parallel::Team& team, double* units, Moments* moments, T* coefficients) {
    const size_t cols = g_.stride(), begin = b * g_.outer * cols;
    Statistic* stats = stats_ + b * g_.groups;
    if (!op_.use_running) {
      reduce_columns(k_, op_.x + begin, g_, op_.rule, team, units, moments);
      for (size_t group = 0; group < g_.groups; group++) {
        stats[group] =
            statistic_of(moments[group], op_.rule, op_.x + begin + group * g_.inner, cols, g_.outer, g_.inner);
      }
    }
    T *center = coefficients, *scale = center + cols, *shift = scale + cols;
    const bool by_row = g_.channel_by_row();
    bool careful = false;
    for (size_t j = 0; j < cols; j++) {
      const Statistic& s = stats[j / g_.inner];
      const Affine<T> f = folded(s, by_row ? T(1) : weight(j), by_row ? T(0) : bias(j));
      center[j] = f.center;
      scale[j] = f.scale;
      shift[j] = f.shift;
      careful = careful || is_extreme(s);
    }
    const size_t grain = team.grain(g_.outer, cols * streams() * sizeof(S));
    team.for_each(g_.outer, grain, [&](size_t from, size_t to, size_t) {
      AffineColumns<T> f = {center, scale, shift, nullptr, nullptr};
      if (by_row && op_.weight) f.row_weight = op_.weight + from;
      if (by_row && op_.bias) f.row_bias = op_.bias + from;
      const size_t at = begin + from * cols;
      if (!careful) {
        k_.apply_columns(op_.y + at, op_.x + at, cols, to - from, cols, f, finish_at(at));
        return;
      }
      for (size_t i = 0; i < (to - from) * cols; i++) {
        const size_t row = i / cols, j = i % cols, channel = by_row ? from + row : j;
        const Statistic& s = stats[j / g_.inner];
        const S x = op_.x[at + i];
        const S* add = finish_at(at + i).add;
        if (is_extreme(s)) {
          put(at + i, y_in_double(x, s, weight(channel), bias(channel), add));
        } else {
          put(at + i, y_of_column(x, f, j, row, add));
        }
      }
    });
  }

  const Kernels<S>& k_;
  const Normalize<S>& op_;
  const Geometry& g_;
  const Blocks blocks_;
  Statistic* stats_ = nullptr;
};

}  // namespace

template <class S>
Status normalize(const Kernels<S>& k, const Normalize<S>& op) {
  return Forward<S>(k, op).run();
}

template Status normalize(const Kernels<float>&, const Normalize<float>&);
template Status normalize(const Kernels<double>&, const Normalize<double>&);
template Status normalize(const Kernels<Float16>&, const Normalize<Float16>&);
template Status normalize(const Kernels<BFloat16>&, const Normalize<BFloat16>&);

}  // namespace simdnorm
