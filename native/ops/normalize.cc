#include "native/ops/normalize.h"

#include "native/parallel/float_environment.h"

namespace simdnorm {
namespace {

// y = xHat * weight + bias, one element at a time in double: for statistics that T cannot work with.
template <class T>
T in_double(T x, const Statistic& s, T weight, T bias) {
  return static_cast<T>(x_hat_in_double(x, s) * static_cast<double>(weight) + static_cast<double>(bias));
}

// The same folded for the kernels: (x - center) * scale + shift.
template <class T>
Affine<T> folded(const Statistic& s, T weight, T bias) {
  const double scale = s.rstd * static_cast<double>(weight);
  return {static_cast<T>(s.mean), static_cast<T>(scale), static_cast<T>(static_cast<double>(bias) - s.rest * scale)};
}

template <class T>
class Forward {
 public:
  Forward(const Kernels<T>& k, const Normalize<T>& op) : k_(k), op_(op), g_(op.g), blocks_(row_blocks(op.g)) {}

  Status run() {
    const size_t bytes = g_.elements() * 2 * sizeof(T);
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
      team.for_each(pieces, team.grain(pieces, g_.run * 2 * sizeof(T)), [&](size_t from, size_t to, size_t) {
        for (size_t i = from; i < to; i++) {
          const size_t channel = first_channel + i % g_.channels_per_group();
          const size_t at = begin + i / g_.channels_per_group() * g_.stride() + i % g_.channels_per_group() * g_.run;
          if (careful) {
            for (size_t e = at; e < at + g_.run; e++)
              op_.y[e] = in_double(op_.x[e], stat, weight(channel), bias(channel));
          } else {
            k_.apply(op_.y + at, op_.x + at, g_.run, folded(stat, weight(channel), bias(channel)));
          }
        }
      });
      return;
    }
    // One weight per element, outer is 1.
    const Affine<T> f = folded(stat, T(1), T(0));
    team.for_each(g_.inner, team.grain(g_.inner, 2 * sizeof(T)), [&](size_t from, size_t to, size_t) {
      const size_t at = begin + from, channel = first_channel + from;
      if (careful) {
        for (size_t i = 0; i < to - from; i++) {
          op_.y[at + i] = in_double(op_.x[at + i], stat, weight(channel + i), bias(channel + i));
        }
      } else {
        k_.apply_elements(op_.y + at, op_.x + at, to - from, f, op_.weight ? op_.weight + channel : nullptr,
                          op_.bias ? op_.bias + channel : nullptr);
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
    bool careful = false;
    for (size_t j = 0; j < cols; j++) {
      const Statistic& s = stats[j / g_.inner];
      const Affine<T> f = folded(s, weight(j), bias(j));
      center[j] = f.center;
      scale[j] = f.scale;
      shift[j] = f.shift;
      careful = careful || is_extreme(s);
    }
    team.for_each(g_.outer, team.grain(g_.outer, cols * 2 * sizeof(T)), [&](size_t from, size_t to, size_t) {
      const T* x = op_.x + begin + from * cols;
      T* y = op_.y + begin + from * cols;
      if (!careful) {
        k_.apply_columns(y, x, cols, to - from, cols, {center, scale, shift});
        return;
      }
      // Ordinary columns as the kernel has them, so that a channel does not depend on its neighbours.
      for (size_t row = from; row < to; row++, x += cols, y += cols) {
        for (size_t j = 0; j < cols; j++) {
          const Statistic& s = stats[j / g_.inner];
          y[j] = is_extreme(s) ? in_double(x[j], s, weight(j), bias(j)) : (x[j] - center[j]) * scale[j] + shift[j];
        }
      }
    });
  }

  const Kernels<T>& k_;
  const Normalize<T>& op_;
  const Geometry& g_;
  const Blocks blocks_;
  Statistic* stats_ = nullptr;
};

}  // namespace

template <class T>
Status normalize(const Kernels<T>& k, const Normalize<T>& op) {
  return Forward<T>(k, op).run();
}

template Status normalize<float>(const Kernels<float>&, const Normalize<float>&);
template Status normalize<double>(const Kernels<double>&, const Normalize<double>&);

}  // namespace simdnorm
