// What this CPU can run and this OS preserves across a context switch. Asked once.
#ifndef SIMDNORM_DISPATCH_CPU_H_
#define SIMDNORM_DISPATCH_CPU_H_

namespace simdnorm {
namespace cpu {

// One predicate for each line of isa.inc.
bool avx512();
bool avx2();
bool neon();
bool portable();

}  // namespace cpu
}  // namespace simdnorm

#endif  // SIMDNORM_DISPATCH_CPU_H_
