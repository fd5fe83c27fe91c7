#define SIMDNORM_ISA simd128
#include "native/simd/vec_portable.h"
#include "native/kernels/kernels-inl.h"
