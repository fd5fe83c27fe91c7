#define SIMDNORM_ISA avx512
#include "native/simd/vec_avx512.h"
#include "native/kernels/kernels-inl.h"
