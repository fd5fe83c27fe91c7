// From data to mean, variance and rstd of every (batch, group), and from those to running averages.
#ifndef SIMDNORM_OPS_STATISTICS_H_
#define SIMDNORM_OPS_STATISTICS_H_

#include "native/core/geometry.h"
#include "native/core/statistic.h"
#include "native/kernels/kernels.h"
#include "native/ops/blocks.h"
#include "native/parallel/thread_pool.h"

namespace simdnorm {

enum class Status { kOk, kOutOfMemory };

// xHat in double, whatever the statistic.
template <class S>
double x_hat_in_double(S x, const Statistic& s) {
  return ((wide(x) * s.scale - s.mean) - s.rest) * s.rstd;
}

// From the moments of `pieces` stretches of n elements at x.
template <class S>
Statistic statistic_of(const Moments& m, const Rule& rule, const S* x, size_t stride, size_t pieces, size_t n);
template <class T>
Statistic statistic_of_running(T mean, T var, const Rule& rule);

// Moments of the stretches that `blocks` cuts. `units` holds a Moments for each unit, unless the team is one.
template <class S>
Moments reduce_rows(const Kernels<S>& k, const S* x, const Blocks& blocks, About about, const parallel::Team& team,
                    Moments* units);
inline Blocks row_blocks(const Geometry& g, size_t bytes) { return Blocks(g.outer, g.inner, g.stride(), bytes); }

// The columns of an [outer][groups * inner] matrix: units of rows, some hundreds of them because each is merged
// (docs/performance.md), and about sixteen units at least in a tall matrix, for the threads.
class ColumnBlocks {
 public:
  explicit ColumnBlocks(size_t rows, size_t least = 256, size_t most = 1024)
      : rows_(rows), length_(at_most(most, at_least(least, ceil_div(rows, 16)))) {}
  size_t units() const { return ceil_div(rows_, length_); }
  size_t first(size_t unit) const { return unit * length_; }
  size_t rows(size_t unit, size_t units = 1) const { return at_most(units * length_, rows_ - first(unit)); }

 private:
  size_t rows_, length_;
};

// Statistics of one batch item's groups into stats[0 .. groups). `units` holds 4 * cols doubles for each unit.
template <class S>
void reduce_columns(const Kernels<S>& k, const S* x, const Geometry& g, const Rule& rule, const parallel::Team& team,
                    double* units, Moments* groups);

// Moments of every (batch, group), five doubles each.
template <class S>
Status all_moments(const Kernels<S>& k, const Geometry& g, const S* x, About about, Moments* out);

// Of all data together whose parts have these moments, [count][groups]: a fixed tree over the parts, as reduce_rows has
// over units. float64 data whose squares no double holds overflow here.
template <class T>
void statistics_of_parts(const Moments* parts, size_t count, size_t groups, const Rule& rule, Statistic* out);

// running = momentum * batch + (1 - momentum) * running, with the unbiased variance, averaged over `batch`. `counts`
// has the values behind each statistic of a batch item, or is null: the geometry's.
template <class T>
void update_running(const Geometry& g, const Statistic* stats, const double* counts, double momentum, T* mean, T* var);

}  // namespace simdnorm

#endif  // SIMDNORM_OPS_STATISTICS_H_
