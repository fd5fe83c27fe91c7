#define SIMDNORM_ISA avx2
#include "native/simd/vec_avx2.h"
#include "native/kernels/kernels-inl.h"
