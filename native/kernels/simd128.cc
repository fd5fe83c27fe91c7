#define SIMDNORM_ISA simd128
#include "native/simd/vec_simd128.h"
#include "native/kernels/kernels-inl.h"
