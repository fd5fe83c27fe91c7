#define SIMDNORM_ISA neon
#include "native/simd/vec_neon.h"
#include "native/kernels/kernels-inl.h"
