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

template <class S>
constexpr Kernels<S> kKernels = {
    moments<S>,
    moments_columns<S>,
    apply<S>,
    apply_elements<S>,
    apply_columns<S>,
    gate<S>,
    gate_elements<S>,
    gate_columns<S>,
    grad_sums<S>,
    grad_sums_elements<S>,
    grad_sums_row<S>,
    grad_columns<S>,
    grad_columns_by_row<S>,
    slope<S>,
    slope_elements<S>,
    slope_columns<S>,
    squares<S>,
    respond<S>,
    respond_back<S>,
    respond_slope<S>,
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
constexpr KernelTable SIMDNORM_JOIN(k_, SIMDNORM_ISA) = {
    SIMDNORM_QUOTE(SIMDNORM_ISA), SIMDNORM_ISA::kKernels<float>, SIMDNORM_ISA::kKernels<double>,
    SIMDNORM_ISA::kKernels<Float16>, SIMDNORM_ISA::kKernels<BFloat16>};

}  // namespace simdnorm
