// Groups over an MPI library that is found at run time: any with the ABI of Open MPI or of MPICH, and of MPI 3.
//
// MPI ends with the process, by MPI_Finalize, which waits for all ranks to come to it: here no longer than the timeout
// of mpi_open, and 10 s at least. It is left out where it could wait for nobody: after a failure, or in a process that
// ends with an error. A launcher then ends the other ranks, as MPI's launchers do.
#ifndef SIMDNORM_DISTRIBUTED_MPI_H_
#define SIMDNORM_DISTRIBUTED_MPI_H_

#include <atomic>

#include "native/distributed/engine.h"

namespace simdnorm::distributed {

// False: `detail` says why. A process has one MPI library: it may be asked for again, but for no other.
bool mpi_load(const char* library, char* detail);

// A group of all ranks that the launcher has started. All of them call it. Reports as collectives do, to `missing` of
// `room` ranks, and says what it can in `detail`. Once `stopped` is true it ends with kClosed, soon.
struct Opening {
  Deadline::duration timeout;
  uint8_t* missing;
  size_t room;
  char* detail;
  std::atomic<bool> stopped{false};
};
Outcome mpi_open(const Opening& opening, Engine** made);

// The process is about to end, and MPI_Finalize shall not be called.
void mpi_abandon();

}  // namespace simdnorm::distributed

#endif  // SIMDNORM_DISTRIBUTED_MPI_H_
