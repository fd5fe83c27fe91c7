// The kernels, written once over Vec<T> and compiled for each ISA. Included by <isa>.cc only, after its vec_<isa>.h.
// Contracts are in kernels.h. Nothing here may be shared with other files, not even a std:: template (docs/adding.md).
#include "native/kernels/lanes-inl.h"
#include "native/kernels/moments-inl.h"
#include "native/kernels/apply-inl.h"
#include "native/kernels/gradients-inl.h"
#include "native/kernels/rows-inl.h"
#include "native/kernels/power-inl.h"
#include "native/kernels/local_response-inl.h"
#include "native/kernels/images-inl.h"
#include "native/kernels/tally-inl.h"

namespace simdnorm {
namespace SIMDNORM_ISA {
namespace {

template <class S>
constexpr Kernels<S> kKernels = {
    moments<S>,        moments_columns<S>, merge_columns,    apply_runs<S>,    apply_elements<S>, apply_columns<S>,
    apply_by_row<S>,   normalize_rows<S>,  gate_runs<S>,     gate_elements<S>, gate_by_row<S>,    grad_sums<S>,
    grad_elements<S>,  drain<Value<S>>,    backward_rows<S>, grad_sums_row<S>, grad_columns<S>,   slope_runs<S>,
    slope_elements<S>, slope_columns<S>,   slope_by_row<S>,  squares<S>,       respond<S>,        respond_back<S>,
    respond_slope<S>,  from_pixels<S>,     to_pixels<S>,     window_sums,
};
template <class S>
constexpr Tallies<S> kTallies = {tally_centers<S>, tally_center<S>, tally_columns<S>, tally_run<S>};

}  // namespace
}  // namespace SIMDNORM_ISA

// The one symbol that leaves the file.
#define SIMDNORM_JOIN_(a, b) a##b
#define SIMDNORM_JOIN(a, b) SIMDNORM_JOIN_(a, b)
#define SIMDNORM_QUOTE_(a) #a
#define SIMDNORM_QUOTE(a) SIMDNORM_QUOTE_(a)
extern const KernelTable SIMDNORM_JOIN(k_, SIMDNORM_ISA);
constexpr KernelTable SIMDNORM_JOIN(k_, SIMDNORM_ISA) = {
    SIMDNORM_QUOTE(SIMDNORM_ISA),    SIMDNORM_ISA::kKernels<float>,    SIMDNORM_ISA::kKernels<double>,
    SIMDNORM_ISA::kKernels<Float16>, SIMDNORM_ISA::kKernels<BFloat16>, SIMDNORM_ISA::kTallies<float>,
    SIMDNORM_ISA::kTallies<double>,  SIMDNORM_ISA::kTallies<Float16>,  SIMDNORM_ISA::kTallies<BFloat16>,
    SIMDNORM_ISA::kTallies<uint8_t>, SIMDNORM_ISA::kTallies<int8_t>,   SIMDNORM_ISA::kTallies<int16_t>,
    SIMDNORM_ISA::kTallies<int32_t>};

}  // namespace simdnorm
