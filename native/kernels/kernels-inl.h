// The kernels, written once over Vec<T> and compiled for each ISA. Included by <isa>.cc only, after its vec_<isa>.h.
// Contracts are in kernels.h. Nothing here may be shared with other files, not even a std:: template (docs/adding.md).
#include "native/kernels/lanes-inl.h"
#include "native/kernels/moments-inl.h"
#include "native/kernels/apply-inl.h"
#include "native/kernels/gradients-inl.h"
#include "native/kernels/power-inl.h"
#include "native/kernels/local_response-inl.h"

namespace simdnorm {
namespace SIMDNORM_ISA {
namespace {

template <class T>
constexpr Kernels<T> kKernels = {
    moments<T>,
    moments_columns<T>,
    apply<T>,
    apply_elements<T>,
    apply_columns<T>,
    grad_sums<T>,
    grad_sums_elements<T>,
    grad_columns<T>,
    grad_columns_by_row<T>,
    slope<T>,
    slope_elements<T>,
    slope_columns<T>,
    squares<T>,
    respond<T>,
    respond_back<T>,
    respond_slope<T>,
    window_sums,
};

}  // namespace
}  // namespace SIMDNORM_ISA

// The one symbol that leaves the file.
#define SIMDNORM_JOIN_(a, b) a##b
#define SIMDNORM_JOIN(a, b) SIMDNORM_JOIN_(a, b)
#define SIMDNORM_QUOTE_(a) #a
#define SIMDNORM_QUOTE(a) SIMDNORM_QUOTE_(a)
extern const KernelTable SIMDNORM_JOIN(k_, SIMDNORM_ISA);
constexpr KernelTable SIMDNORM_JOIN(k_, SIMDNORM_ISA) = {SIMDNORM_QUOTE(SIMDNORM_ISA), SIMDNORM_ISA::kKernels<float>,
                                                         SIMDNORM_ISA::kKernels<double>};

}  // namespace simdnorm
