// The functions and handles of an MPI library, found by name: its headers are not needed to build, nor is it to run.
#ifndef SIMDNORM_DISTRIBUTED_MPI_LIBRARY_H_
#define SIMDNORM_DISTRIBUTED_MPI_LIBRARY_H_

#include <atomic>
#include <condition_variable>
#include <mutex>

#include "native/distributed/engine.h"

namespace simdnorm::distributed::mpi {

// H is what handles are: int in the ABI of MPICH, a pointer in Open MPI's.
template <class H>
struct Library {
  int (*init_thread)(int* argc, char*** argv, int required, int* provided);
  int (*query_thread)(int* provided);
  int (*initialized)(int* flag);
  int (*finalize)();
  int (*error_string)(int error, char* words, int* length);
  int (*comm_set_errhandler)(H comm, H handler);
  int (*comm_rank)(H comm, int* rank);
  int (*comm_size)(H comm, int* size);
  int (*comm_split)(H comm, int color, int key, H* made);
  int (*comm_free)(H* comm);
  int (*isend)(const void* data, int count, H type, int rank, int tag, H comm, H* request);
  int (*irecv)(void* data, int count, H type, int rank, int tag, H comm, H* request);
  int (*iprobe)(int rank, int tag, H comm, int* flag, void* status);
  int (*test)(H* request, int* flag, void* status);
  int (*iallreduce)(const void* in, void* out, int count, H type, H operation, H comm, H* request);
  int (*ibcast)(void* data, int count, H type, int root, H comm, H* request);
  int (*ibarrier)(H comm, H* request);

  H world, no_comm, no_request, errors_return, byte;
  H types[6], operations[4];  // by Type, Operation
  void* in_place;
  void* ignore;  // a status
  int any_source;
};
template <class H>
const Library<H>& library();

constexpr int kSuccess = 0, kUndefined = -32766, kSerialized = 2;  // the same in both

bool load(const char* name, char* detail);
enum class Abi { kNone, kOpenMpi, kMpich };
Abi loaded();

// All calls of a process, one at a time: MPI_THREAD_SERIALIZED is what libraries have, and the fastest.
std::mutex& lock();

// MPI_Finalize at exit, unless something was `abandoned` or is in use. Where other ranks do not end within `patience`,
// the process ends without it, with 1.
void finalize_at_exit(Deadline::duration patience);
void abandon();
class InUse {
 public:
  InUse();
  ~InUse();
};

// A call of which MPI has no form that could be polled, on a thread of its own. Where it takes too long, the thread is
// left to it, with all it uses, and with the lock.
class Blocking {
 public:
  virtual ~Blocking() = default;
  // Takes a job; gives it back with kOk only.
  static Outcome run(Blocking* job, Deadline deadline, const std::atomic<bool>& closed);

 private:
  virtual void call() = 0;  // under the lock
  static void* serve(void* job);

  std::mutex mutex_;
  std::condition_variable changed_;
  bool ended_ = false, left_ = false;
};

}  // namespace simdnorm::distributed::mpi

#endif  // SIMDNORM_DISTRIBUTED_MPI_LIBRARY_H_
