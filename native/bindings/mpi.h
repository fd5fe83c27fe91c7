// MPI for JavaScript:
//
//   mpiLoad(library, detail): 1, or 0 and why
//   mpiOpen(timeoutMs, made, detail): an Outcome; made is [handle, rank, size]
//   mpiAbandon()
//
// `detail` is a Uint8Array(512), `made` a Float64Array(3). native/distributed/mpi.h has what they do.
#ifndef SIMDNORM_BINDINGS_MPI_H_
#define SIMDNORM_BINDINGS_MPI_H_

#include "native/bindings/group.h"

namespace simdnorm::distributed {

constexpr size_t kMpiFunctions = 3;
extern const Function mpi_functions[kMpiFunctions];

}  // namespace simdnorm::distributed

#endif  // SIMDNORM_BINDINGS_MPI_H_
