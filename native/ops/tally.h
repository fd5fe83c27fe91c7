// Statistics of data sets: what many batches come to, in any pieces and any order. See docs/numerics.md.
#ifndef SIMDNORM_OPS_TALLY_H_
#define SIMDNORM_OPS_TALLY_H_

#include "native/core/twice.h"
#include "native/kernels/kernels.h"
#include "native/ops/statistics.h"

namespace simdnorm {

// The state of one feature. `count` is the sum of the weights, `missing` how many values were NaN.
struct Tally {
  Twice count, mean, m2;
  double min, max, missing;
};

// A tensor [outer][channels][inner]: positions (outer, inner) of `channels` values each. What is between two channels
// is `inner` elements, what is between two of outer `stride`: there may be more channels than are read.
struct Samples {
  size_t outer, channels, inner, stride;
};

// Chan's formula. Either may be empty.
void merge(Tally& into, const Tally& from);

// Adds x to the states of the channels. Values that are NaN are left out, and so are positions of weight 0. `weights`,
// of each position, may be null. Infinities give the mean of a plain sum and an M2 that is NaN.
template <class S>
Status tally(const Tallies<S>& k, const Samples& samples, const S* x, const double* weights, Tally* state);

}  // namespace simdnorm

#endif  // SIMDNORM_OPS_TALLY_H_
