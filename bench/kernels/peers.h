// Ways to a mean and a variance. Those of peers.cc come as one table for each instruction set.
#ifndef SIMDNORM_BENCH_KERNELS_PEERS_H_
#define SIMDNORM_BENCH_KERNELS_PEERS_H_

#include "native/kernels/kernels.h"

namespace simdnorm {

struct Way {
  const char* name;
  Moments (*moments)(const KernelTable& k, const float* x, size_t n);
};
struct Peers {
  Way ways[7];
};

}  // namespace simdnorm

#endif  // SIMDNORM_BENCH_KERNELS_PEERS_H_
