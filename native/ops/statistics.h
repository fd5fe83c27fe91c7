// From data to mean, variance and rstd of every (batch, group), and from those to running averages.
#ifndef SIMDNORM_OPS_STATISTICS_H_
#define SIMDNORM_OPS_STATISTICS_H_

#include "native/core/geometry.h"
#include "native/core/moments.h"
#include "native/kernels/kernels.h"
#include "native/ops/blocks.h"
#include "native/parallel/thread_pool.h"

namespace simdnorm {

enum class Status { kOk, kOutOfMemory };

// What one (batch, group) is normalized by; also the record kept for backward, five doubles. mean + rest is the mean:
// `mean` is exact in the tensor's type, so that x - mean loses nothing to it. All of it is of data times `scale`, a
// power of two, 1 but for float64 data whose squares no double holds.
struct Statistic {
  double mean, rest, var, rstd, scale;
};

// xHat in double, whatever the statistic.
template <class T>
double x_hat_in_double(T x, const Statistic& s) {
  return ((static_cast<double>(x) * s.scale - s.mean) - s.rest) * s.rstd;
}

// How a statistic is taken.
struct Rule {
  double eps;
  About about;
  // BatchNorm and InstanceNorm: with eps 0, constant data give bias. The others give NaN, as 0 / 0 does.
  bool zero_var_is_zero;
};

// From the moments of `pieces` stretches of n elements at x.
template <class T>
Statistic statistic_of(const Moments& m, const Rule& rule, const T* x, size_t stride, size_t pieces, size_t n);
template <class T>
Statistic statistic_of_running(T mean, T var, const Rule& rule);

// Whether the kernels' arithmetic in T could overflow or lose digits around this statistic, which n values came to:
// then the ops go through that data in double.
template <class T>
bool extreme(const Statistic& s, double n);

// Moments of the stretches that `blocks` cuts. `units` holds a Moments for each unit, unless the team is one.
template <class T>
Moments reduce_rows(const Kernels<T>& k, const T* x, const Blocks& blocks, About about, const parallel::Team& team,
                    Moments* units);
inline Blocks row_blocks(const Geometry& g) { return Blocks(g.outer, g.inner, g.stride()); }

// The columns of an [outer][groups * inner] matrix: blocks of about 32 KiB of whole rows.
class ColumnBlocks {
 public:
  ColumnBlocks(size_t rows, size_t cols) : rows_(rows), length_(at_most(256, at_least(32, 8192 / at_least(1, cols)))) {}
  size_t units() const { return ceil_div(ceil_div(rows_, length_), kUnit); }
  // f(first row, rows) for the blocks of one unit, in order.
  template <class F>
  void each(size_t unit, F f) const {
    const size_t end = at_most(rows_, (unit + 1) * kUnit * length_);
    for (size_t row = unit * kUnit * length_; row < end; row += length_) f(row, at_most(length_, end - row));
  }

 private:
  size_t rows_, length_;
};

// Statistics of one batch item's groups into stats[0 .. groups). `units` holds 4 * cols doubles for each unit.
template <class T>
void reduce_columns(const Kernels<T>& k, const T* x, const Geometry& g, const Rule& rule, const parallel::Team& team,
                    double* units, Moments* groups);

// Moments of every (batch, group), five doubles each.
template <class T>
Status all_moments(const Kernels<T>& k, const Geometry& g, const T* x, About about, Moments* out);

// running = momentum * batch + (1 - momentum) * running, with the unbiased variance, averaged over `batch`. `counts`
// has the values behind each statistic of a batch item, or is null: the geometry's.
template <class T>
void update_running(const Geometry& g, const Statistic* stats, const double* counts, double momentum, T* mean, T* var);

}  // namespace simdnorm

#endif  // SIMDNORM_OPS_STATISTICS_H_
