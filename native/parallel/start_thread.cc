#include "native/parallel/start_thread.h"

#ifdef _WIN32
#include <windows.h>
#else
#include <pthread.h>
#endif

namespace simdnorm {
namespace parallel {

bool start_thread(void* (*entry)(void*), void* argument) {
#ifdef _WIN32
  struct Call {
    void* (*entry)(void*);
    void* argument;
    static DWORD WINAPI go(void* p) {
      Call* call = static_cast<Call*>(p);
      void* (*const entry)(void*) = call->entry;
      void* const argument = call->argument;
      HeapFree(GetProcessHeap(), 0, call);
      entry(argument);
      return 0;
    }
  };
  Call* call = static_cast<Call*>(HeapAlloc(GetProcessHeap(), 0, sizeof(Call)));
  if (!call) return false;
  *call = {entry, argument};
  const HANDLE thread = CreateThread(nullptr, 0, Call::go, call, 0, nullptr);
  if (!thread) {
    HeapFree(GetProcessHeap(), 0, call);
    return false;
  }
  CloseHandle(thread);
  return true;
#else
  pthread_t thread;
  pthread_attr_t attributes;
  if (pthread_attr_init(&attributes) != 0) return false;
  pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
  const bool started = pthread_create(&thread, &attributes, entry, argument) == 0;
  pthread_attr_destroy(&attributes);
  return started;
#endif
}

}  // namespace parallel
}  // namespace simdnorm
