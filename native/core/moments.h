// Count, mean and sum of squared deviations, and how two of them merge (Chan, Golub & LeVeque 1983).
// Mean and M2 are each two doubles, high + low: one double cannot hold the mean of a part finely enough, and the
// difference of two such means then spoils M2 (measured in docs/numerics.md).
//
// The only arithmetic shared with ISA code. Everything has internal linkage, so that no linker can hand an AVX-512
// copy to the rest of the program.
#ifndef SIMDNORM_CORE_MOMENTS_H_
#define SIMDNORM_CORE_MOMENTS_H_

#include <stddef.h>

namespace simdnorm {

// About which point squares are summed: the mean, or zero (RMSNorm).
enum class About { kMean, kZero };

struct Moments {
  double count, mean, mean_low, m2, m2_low;
};

// Mean and M2 of as many data sets as V has lanes.
template <class V>
struct Spread {
  V mean, mean_low, m2, m2_low;
};

namespace {

// a + b = high + low exactly (Knuth).
template <class V>
inline V two_sum(V a, V b, V& low) {
  const V high = a + b;
  const V part = high - a;
  low = (a - (high - part)) + (b - part);
  return high;
}

// Adds b, of count nb > 0, to a, of count na > 0.
template <class V>
inline void merge(Spread<V>& a, double na, const Spread<V>& b, double nb) {
  const double share = nb / (na + nb);
  V low, part;
  const V high = two_sum<V>(b.mean, V() - a.mean, low);
  const V delta = high + (low + (b.mean_low - a.mean_low));

  a.mean = two_sum<V>(a.mean, delta * V(share), low);
  a.mean = two_sum<V>(a.mean, low + a.mean_low, a.mean_low);

  const V sum = two_sum<V>(a.m2, b.m2, low);
  const V all = two_sum<V>(sum, delta * delta * V(na * share), part);
  a.m2 = two_sum<V>(all, part + (low + (a.m2_low + b.m2_low)), a.m2_low);
}

inline void merge(Moments& a, const Moments& b) {
  if (b.count == 0) return;
  if (a.count == 0) {
    a = b;
    return;
  }
  Spread<double> into = {a.mean, a.mean_low, a.m2, a.m2_low};
  merge<double>(into, a.count, {b.mean, b.mean_low, b.m2, b.m2_low}, b.count);
  a = {a.count + b.count, into.mean, into.mean_low, into.m2, into.m2_low};
}

// Merges parts in a fixed binary tree, whoever computed them: like the carries of a counter. So 2^k parts that were
// merged elsewhere stand for themselves.
template <class Part>
class Cascade {
 public:
  void push(Part part) {
    size_t level = 0;
    for (size_t n = size_++; n & 1; n >>= 1) {
      merge(levels_[level], part);
      part = levels_[level++];
    }
    levels_[level] = part;
  }
  Part finish() {
    Part total = {};
    for (size_t level = 0; size_ >> level; level++) {
      if (!((size_ >> level) & 1)) continue;
      merge(levels_[level], total);
      total = levels_[level];
    }
    return total;
  }

 private:
  Part levels_[64];
  size_t size_ = 0;
};

}  // namespace
}  // namespace simdnorm

#endif  // SIMDNORM_CORE_MOMENTS_H_
