// What this CPU can run and this OS preserves across a context switch, and how large its caches are. Asked once.
#ifndef SIMDNORM_DISPATCH_CPU_H_
#define SIMDNORM_DISPATCH_CPU_H_

#include <stddef.h>

namespace simdnorm {
namespace cpu {

// One predicate for each line of isa.inc.
bool avx512();
bool avx2();
bool neon();
bool simd128();
bool portable();

// In bytes: of one core, and of all that share it. They choose the order of work and the kind of stores, never a sum.
struct Caches {
  size_t l2, l3;
};
Caches caches();
void use_caches(Caches c);  // others than this CPU has, for tests

}  // namespace cpu
}  // namespace simdnorm

#endif  // SIMDNORM_DISPATCH_CPU_H_
