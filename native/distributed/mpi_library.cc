#include "native/distributed/mpi_library.h"

#include <stdio.h>
#include <stdlib.h>

#include <thread>

#include "native/parallel/start_thread.h"

#ifndef _WIN32
#include <dlfcn.h>
#include <unistd.h>
#endif

namespace simdnorm::distributed::mpi {
namespace {

std::mutex g_lock;
std::atomic<bool> g_abandoned{false};
std::atomic<int> g_in_use{0};

std::atomic<Abi> g_loaded{Abi::kNone};
Library<void*> g_open_mpi;
Library<int> g_mpich;

// Of a rank that ends, with the others.
Deadline::duration g_patience;

#ifndef _WIN32

template <class F>
bool find(void* handle, const char* name, F* function, char* detail) {
  // As POSIX has it: a pointer to a function comes out of dlsym as one to an object.
  *reinterpret_cast<void**>(function) = dlsym(handle, name);
  if (*function) return true;
  snprintf(detail, kDetail, "it has no %s", name);
  return false;
}

template <class H>
bool find_functions(void* handle, Library<H>* l, char* detail) {
  return find(handle, "MPI_Init_thread", &l->init_thread, detail) &&
         find(handle, "MPI_Query_thread", &l->query_thread, detail) &&
         find(handle, "MPI_Initialized", &l->initialized, detail) &&
         find(handle, "MPI_Finalize", &l->finalize, detail) &&
         find(handle, "MPI_Error_string", &l->error_string, detail) &&
         find(handle, "MPI_Comm_set_errhandler", &l->comm_set_errhandler, detail) &&
         find(handle, "MPI_Comm_rank", &l->comm_rank, detail) && find(handle, "MPI_Comm_size", &l->comm_size, detail) &&
         find(handle, "MPI_Comm_split", &l->comm_split, detail) &&
         find(handle, "MPI_Comm_free", &l->comm_free, detail) && find(handle, "MPI_Isend", &l->isend, detail) &&
         find(handle, "MPI_Irecv", &l->irecv, detail) && find(handle, "MPI_Iprobe", &l->iprobe, detail) &&
         find(handle, "MPI_Test", &l->test, detail) && find(handle, "MPI_Iallreduce", &l->iallreduce, detail) &&
         find(handle, "MPI_Ibcast", &l->ibcast, detail) && find(handle, "MPI_Ibarrier", &l->ibarrier, detail);
}

// Handles are the addresses of objects.
bool find_open_mpi(void* handle, char* detail) {
  Library<void*>& l = g_open_mpi;
  l.in_place = reinterpret_cast<void*>(intptr_t(1));
  l.ignore = nullptr;
  l.any_source = -1;
  const struct {
    const char* name;
    void** to;
  } objects[] = {
      {"ompi_mpi_comm_world", &l.world},
      {"ompi_mpi_comm_null", &l.no_comm},
      {"ompi_request_null", &l.no_request},
      {"ompi_mpi_errors_return", &l.errors_return},
      {"ompi_mpi_byte", &l.byte},
      {"ompi_mpi_float", &l.types[0]},
      {"ompi_mpi_double", &l.types[1]},
      {"ompi_mpi_int32_t", &l.types[2]},
      {"ompi_mpi_int64_t", &l.types[3]},
      {"ompi_mpi_uint8_t", &l.types[4]},
      {"ompi_mpi_int8_t", &l.types[5]},
      {"ompi_mpi_op_sum", &l.operations[0]},
      {"ompi_mpi_op_prod", &l.operations[1]},
      {"ompi_mpi_op_min", &l.operations[2]},
      {"ompi_mpi_op_max", &l.operations[3]},
  };
  for (const auto& o : objects) {
    if (!find(handle, o.name, o.to, detail)) return false;
  }
  return find_functions(handle, &l, detail);
}

// Handles are numbers, the same in all libraries of this ABI.
bool find_mpich(void* handle, char* detail) {
  const auto constant = [](unsigned bits) { return static_cast<int>(bits); };
  Library<int>& l = g_mpich;
  l.in_place = reinterpret_cast<void*>(intptr_t(-1));
  l.ignore = reinterpret_cast<void*>(intptr_t(1));
  l.any_source = -2;
  l.world = constant(0x44000000);
  l.no_comm = constant(0x04000000);
  l.no_request = constant(0x2c000000);
  l.errors_return = constant(0x54000001);
  l.byte = constant(0x4c00010d);
  const unsigned types[] = {0x4c00040a, 0x4c00080b, 0x4c000439, 0x4c00083a, 0x4c00013b, 0x4c000137};
  for (size_t i = 0; i < 6; i++) l.types[i] = constant(types[i]);
  const unsigned operations[] = {0x58000003, 0x58000004, 0x58000002, 0x58000001};
  for (size_t i = 0; i < 4; i++) l.operations[i] = constant(operations[i]);
  return find_functions(handle, &l, detail);
}

bool names_mpich(void* handle) {
  char version[8192] = "";  // as long as MPICH's may be
  int length = 0;
  int (*get)(char*, int*) = nullptr;
  char unused[kDetail];
  if (!find(handle, "MPI_Get_library_version", &get, unused) || get(version, &length) != kSuccess) return false;
  return strstr(version, "MPICH") || strstr(version, "MVAPICH") || strstr(version, "Intel");
}

// MPI_Finalize waits for all ranks, in a loop, and for ever where one hangs: whether all have come is found out before.
template <class H>
bool all_have_come(const Library<H>& l, Deadline deadline) {
  H request = l.no_request;
  int done = 0;
  if (l.ibarrier(l.world, &request) != kSuccess) return false;
  while (l.test(&request, &done, l.ignore) == kSuccess) {
    if (done) return true;
    if (std::chrono::steady_clock::now() >= deadline) return false;
    std::this_thread::sleep_for(std::chrono::microseconds(200));
  }
  return false;
}

// On a thread of its own, because a rank may still stop in the midst of it.
bool finalize_until(int (*finalize)(), Deadline deadline) {
  static int (*call)();
  static std::atomic<bool> ended{false};
  call = finalize;
  const auto serve = [](void*) -> void* {
    call();
    ended.store(true);
    return nullptr;
  };
  if (!parallel::start_thread(serve, nullptr)) return false;
  while (!ended.load() && std::chrono::steady_clock::now() < deadline) {
    std::this_thread::sleep_for(std::chrono::microseconds(200));
  }
  return ended.load();
}

template <class H>
bool finalize_within(const Library<H>& l, Deadline::duration patience) {
  return all_have_come(l, std::chrono::steady_clock::now() + patience) &&
         finalize_until(l.finalize, std::chrono::steady_clock::now() + patience);
}

// Never unlocked: what still polls then, on a thread of its own, stays out of a library that is ending.
void finalize() {
  bool locked = false;
  for (int i = 0; i < 100 && !(locked = g_lock.try_lock()); i++) {
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  if (!locked || g_abandoned.load() || g_in_use.load() > 0) return;
  const Deadline::duration patience = g_patience;
  if (g_loaded == Abi::kOpenMpi ? finalize_within(g_open_mpi, patience) : finalize_within(g_mpich, patience)) return;
  fprintf(stderr, "simdnorm: MPI: not all ranks have ended within %.0f s of this one; it ends without them\n",
          std::chrono::duration<double>(patience).count());
  // Neither handlers nor destructors, which a thread that is still in MPI would not survive.
  _exit(1);
}

#endif

}  // namespace

template <>
const Library<void*>& library<void*>() {
  return g_open_mpi;
}
template <>
const Library<int>& library<int>() {
  return g_mpich;
}
Abi loaded() { return g_loaded.load(); }
std::mutex& lock() { return g_lock; }
void abandon() { g_abandoned.store(true); }
InUse::InUse() { g_in_use.fetch_add(1); }
InUse::~InUse() { g_in_use.fetch_sub(1); }

#ifdef _WIN32
bool load(const char*, char* detail) {
  strcpy(detail, "MPI groups are not supported on Windows");
  return false;
}
void finalize_at_exit(Deadline::duration) {}
#else
bool load(const char* name, char* detail) {
  static std::mutex mutex;
  static char known[256];
  const std::lock_guard<std::mutex> turn(mutex);
  if (g_loaded != Abi::kNone) {
    if (strcmp(known, name) == 0) return true;
    snprintf(detail, kDetail, "this process uses %s already", known);
    return false;
  }
  // UCX, beneath many an MPI, else puts hooks into the process's memory management, and with them some processes
  // crashed in V8 at their start. They serve registrations with network cards, which are then made for each large
  // message.
  setenv("UCX_MEM_EVENTS", "n", 0);
  // Open MPI's own plugins look for its symbols among the global ones.
  void* const handle = dlopen(name, RTLD_NOW | RTLD_GLOBAL);
  if (!handle) {
    const char* const why = dlerror();
    snprintf(detail, kDetail, "%s", why ? why : "not found");
    return false;
  }
  Abi abi = Abi::kNone;
  if (dlsym(handle, "ompi_mpi_comm_world")) {
    if (find_open_mpi(handle, detail)) abi = Abi::kOpenMpi;
  } else if (names_mpich(handle)) {
    if (find_mpich(handle, detail)) abi = Abi::kMpich;
  } else {
    strcpy(detail, "it has the ABI of neither Open MPI nor MPICH");
  }
  g_loaded = abi;
  snprintf(known, sizeof known, "%s", name);
  return abi != Abi::kNone;
}
void finalize_at_exit(Deadline::duration patience) {
  g_patience = patience;
  atexit(finalize);
}
#endif

Outcome Blocking::run(Blocking* job, Deadline deadline, const std::atomic<bool>& closed) {
  if (!parallel::start_thread(serve, job)) {
    delete job;
    return Outcome::kFailed;
  }
  std::unique_lock<std::mutex> lock(job->mutex_);
  while (!job->ended_) {
    const Deadline now = std::chrono::steady_clock::now();
    if (closed.load() || now >= deadline) {
      job->left_ = true;
      abandon();
      return closed.load() ? Outcome::kClosed : Outcome::kTimeout;
    }
    const Deadline look = now + std::chrono::milliseconds(5);  // at `closed`
    job->changed_.wait_until(lock, look < deadline ? look : deadline);
  }
  return Outcome::kOk;
}

void* Blocking::serve(void* self) {
  Blocking* const job = static_cast<Blocking*>(self);
  {
    const std::lock_guard<std::mutex> turn(g_lock);
    job->call();
  }
  std::unique_lock<std::mutex> lock(job->mutex_);
  job->ended_ = true;
  job->changed_.notify_all();
  const bool left = job->left_;
  lock.unlock();
  if (left) delete job;
  return nullptr;
}

}  // namespace simdnorm::distributed::mpi
