// The kinds of geometry, each with its own way forward and back; and what those ways share. See docs/architecture.md.
#ifndef SIMDNORM_OPS_KINDS_H_
#define SIMDNORM_OPS_KINDS_H_

#include <stdint.h>

#include "native/ops/backward.h"
#include "native/ops/normalize.h"
#include "native/ops/output.h"
#include "native/ops/streams.h"

namespace simdnorm {

// Channels in runs; a weight for each element of a row; channels (or groups of them) side by side.
template <class S>
Status normalize_runs(const Kernels<S>& k, const Normalize<S>& op);
template <class S>
Status normalize_elements(const Kernels<S>& k, const Normalize<S>& op);
template <class S>
Status normalize_columns(const Kernels<S>& k, const Normalize<S>& op);
template <class S>
Status backward_runs(const Kernels<S>& k, const Backward<S>& op);
template <class S>
Status backward_elements(const Kernels<S>& k, const Backward<S>& op);
template <class S>
Status backward_columns(const Kernels<S>& k, const Backward<S>& op);

#define SIMDNORM_KIND(kind)                                                               \
  template Status normalize_##kind(const Kernels<float>&, const Normalize<float>&);       \
  template Status normalize_##kind(const Kernels<double>&, const Normalize<double>&);     \
  template Status normalize_##kind(const Kernels<Float16>&, const Normalize<Float16>&);   \
  template Status normalize_##kind(const Kernels<BFloat16>&, const Normalize<BFloat16>&); \
  template Status backward_##kind(const Kernels<float>&, const Backward<float>&);         \
  template Status backward_##kind(const Kernels<double>&, const Backward<double>&);       \
  template Status backward_##kind(const Kernels<Float16>&, const Backward<Float16>&);     \
  template Status backward_##kind(const Kernels<BFloat16>&, const Backward<BFloat16>&);

// Elements from the last line's begin to p, for memory that is to lie as p does: kernels then read both by whole lines.
template <class T>
size_t behind_line(const T* p) {
  return reinterpret_cast<uintptr_t>(p) / sizeof(T) % kVector;
}

constexpr size_t kItemsEach = 2;  // items that each thread has at least, where they are worked on side by side

// Whole items side by side where there are enough of them, otherwise one item after the other by all threads. The parts
// of a sum are the same either way.
struct Teams {
  const parallel::Team all, solo;
  const bool across;

  Teams(bool alone, size_t items)
      : all(alone), solo(true), across(all.size() == 1 || items >= kItemsEach * all.size()) {}
  const parallel::Team& outside() const { return across ? all : solo; }
  const parallel::Team& inside() const { return across ? solo : all; }
  size_t workers() const { return across ? all.size() : 1; }
};

// unit_of(u) for each unit of blocks, by the whole team, added in a fixed tree. `units` is for a team of several.
template <class F>
GradSums sum_units(const Blocks& blocks, const parallel::Team& team, GradSums* units, F unit_of) {
  const bool shared = team.size() > 1 && blocks.units() > 1;
  if (shared) {
    team.for_each(blocks.units(), 1, [&](size_t from, size_t to, size_t) {
      for (size_t u = from; u < to; u++) units[u] = unit_of(u);
    });
  }
  Cascade<GradSums> all;
  for (size_t u = 0; u < blocks.units(); u++) all.push(shared ? units[u] : unit_of(u));
  return all.finish();
}

// How many values are behind one statistic.
template <class Op>
double values_behind(const Op& op) {
  return op.count > 0 ? op.count : static_cast<double>(op.g.count());
}

template <class S>
class ForwardBase {
 protected:
  using T = Value<S>;
  ForwardBase(const Kernels<S>& k, const Normalize<S>& op)
      : k_(k), op_(op), g_(op.g), bytes_(g_.elements() * streams() * sizeof(S)) {}

  bool alone() const { return bytes_ < kAloneBytes; }
  size_t streams() const { return op_.finish.add ? 3 : 2; }
  T weight(size_t channel) const { return op_.weight ? op_.weight[channel] : T(1); }
  T bias(size_t channel) const { return op_.bias ? op_.bias[channel] : T(0); }
  Finish<S> finish_at(size_t i) const { return {op_.finish.add ? op_.finish.add + i : nullptr, op_.finish.relu}; }
  Stores stores(size_t stretch, size_t threads) const {
    const bool in_place = op_.y == op_.x || op_.y == op_.finish.add;
    return stores_for(bytes_, stretch, threads, in_place);
  }
  bool is_extreme(const Statistic& s) const { return extreme<T>(s, values_behind(op_)); }
  // y[i] of what comes before the ReLU.
  template <class V>
  void put(size_t i, V y) const {
    op_.y[i] = stored<S>(static_cast<T>(op_.finish.relu && y < 0 ? 0 : y));
  }
  void put_in_double(size_t i, const Statistic& s, size_t channel) const {
    put(i, y_in_double(op_.x[i], s, weight(channel), bias(channel), finish_at(i).add));
  }
  // Of use_running.
  Statistic running(size_t s) const {
    if (!op_.running_mean) return op_.saved[s];
    return statistic_of_running(op_.running_mean[s % g_.groups], op_.running_var[s % g_.groups], op_.rule);
  }
  void use_running(Statistic* stats) const {
    for (size_t s = 0; s < g_.statistics(); s++) stats[s] = running(s);
  }

  const Kernels<S>& k_;
  const Normalize<S>& op_;
  const Geometry& g_;
  const size_t bytes_;  // read and written
};

template <class S>
class BackwardBase {
 protected:
  using T = Value<S>;
  BackwardBase(const Kernels<S>& k, const Backward<S>& op)
      : k_(k),
        op_(op),
        g_(op.g),
        bytes_(g_.elements() * 3 * sizeof(S)),
        dy_(op.gated ? op.gated : op.dy),
        sums_wanted_(op.dweight || op.dbias || op.sums || (op.dx && !op.constant)) {}

  bool alone() const { return bytes_ < kAloneBytes; }
  T weight(size_t channel) const { return op_.weight ? op_.weight[channel] : T(1); }
  T bias(size_t channel) const { return op_.bias ? op_.bias[channel] : T(0); }
  Stores stores(size_t stretch, size_t threads) const {
    return stores_for(bytes_, stretch, threads, op_.dx == dy_ || op_.dx == op_.x);
  }
  const S* add_at(size_t i) const { return op_.add ? op_.add + i : nullptr; }
  bool is_extreme(const Statistic& s) const { return extreme<T>(s, values_behind(op_)); }
  // g[i], where y is as it was before the ReLU; rounded to T first, as the kernels have it.
  template <class V>
  void open(size_t i, V y) const {
    op_.gated[i] = static_cast<T>(y) <= 0 ? stored<S>(T(0)) : op_.dy[i];
  }
  void open_in_double(size_t i, const Statistic& s, size_t channel) const {
    open(i, y_in_double(op_.x[i], s, weight(channel), bias(channel), add_at(i)));
  }

  // xHat as the kernels take it. For an extreme statistic all zero: the kernel then adds nothing, and the op adds the
  // part in double.
  Affine<T> x_hat_of(const Statistic& s) const {
    if (is_extreme(s)) return {T(0), T(0), T(0)};
    return folded(s, T(1), T(0));
  }
  // From the sums of h and h * xHat over one statistic.
  Line line(const Statistic& s, GradSums h) const {
    if (op_.constant) return {s.rstd, 0, 0};
    return line_of(s, op_.about, values_behind(op_), h);
  }
  // Of a channel in `totals`.
  GradSums total(size_t channel) const { return {op_.totals[channel], op_.totals[g_.channels + channel]}; }
  GradSums own_of_total(size_t channel) const { return total(2 * g_.channels + channel); }
  // The kernels' xHat lacks the rest of the mean.
  GradSums with_rest(GradSums sums, const Statistic& s) const {
    if (!is_extreme(s)) sums.dy_xhat -= s.rest * s.rstd * sums.dy;
    return sums;
  }
  void put_in_double(size_t i, const Statistic& s, const Line& f, T weight) const {
    const double h = wide(dy_[i]) * static_cast<double>(weight) * f.dy_factor;
    const double dx = op_.constant ? h : h + x_hat_in_double(op_.x[i], s) * f.x_factor + f.constant;
    op_.dx[i] = stored<S>(static_cast<T>(dx * s.scale));
  }

  // Adds the parts, [count][dy, dy * xHat][channels], to the parameter gradients in their order. The first part takes
  // the sums.
  void add_parts(double* parts, size_t count) const {
    if (!op_.dweight && !op_.dbias) return;
    const size_t n = 2 * g_.channels;
    for (size_t part = 1; part < count; part++) {
      for (size_t i = 0; i < n; i++) parts[i] += parts[part * n + i];
    }
    move_to_gradients(parts, parts + g_.channels, 0, g_.channels);
  }
  // Adds sums of n channels to the parameter gradients from channel `first` on, where they are wanted, and clears them
  // for the next ones.
  void move_to_gradients(double* dy, double* dy_xhat, size_t first, size_t n) const {
    const auto move = [&](T* gradient, double* sums) {
      for (size_t c = 0; gradient && c < n; c++) {
        gradient[first + c] = static_cast<T>(static_cast<double>(gradient[first + c]) + sums[c]);
        sums[c] = 0;
      }
    };
    move(op_.dbias, dy);
    move(op_.dweight, dy_xhat);
  }

  const Kernels<S>& k_;
  const Backward<S>& op_;
  const Geometry& g_;
  const size_t bytes_;      // read and written
  const S* const dy_;       // behind the ReLU's gate, if there is one
  const bool sums_wanted_;  // given in `totals`, or to be taken
};

}  // namespace simdnorm

#endif  // SIMDNORM_OPS_KINDS_H_
