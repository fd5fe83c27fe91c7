// MPI for JavaScript:
//
//   mpiLoad(library, detail): 1, or 0 and why
//   mpiOpen(timeoutMs, made, missing, detail, settle): an Outcome; after 0, settle(outcome) is called later, and made
//   is
//     [handle, rank, size]. kClosed: another environment of this process has a group
//   mpiAbandon()
//
// `detail` is a Uint8Array(512), `made` a Float64Array(3), `missing` a Uint8Array for as many ranks as are expected.
// native/distributed/mpi.h has what they do.
#ifndef SIMDNORM_BINDINGS_MPI_H_
#define SIMDNORM_BINDINGS_MPI_H_

#include "native/bindings/group.h"

namespace simdnorm::distributed {

constexpr size_t kMpiFunctions = 3;
extern const Function mpi_functions[kMpiFunctions];

}  // namespace simdnorm::distributed

#endif  // SIMDNORM_BINDINGS_MPI_H_
