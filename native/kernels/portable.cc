#define SIMDNORM_ISA portable
#include "native/simd/vec_portable.h"
#include "native/kernels/kernels-inl.h"
