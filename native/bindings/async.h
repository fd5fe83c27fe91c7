// Work on a libuv thread: the event loop goes on meanwhile. The arguments stay referenced until the end, which is
// enough for memory that nobody can detach: SharedArrayBuffers, and arrays that only lib/internal/async.ts knows.
#ifndef SIMDNORM_BINDINGS_ASYNC_H_
#define SIMDNORM_BINDINGS_ASYNC_H_

#include <node_api.h>
#include <stddef.h>

#include <condition_variable>
#include <mutex>

namespace simdnorm {

// Made with new, and deletes itself once it was started.
class AsyncJob {
 public:
  virtual ~AsyncJob() = default;
  // settle(fault) is called on the JavaScript thread after execute(). False: nothing was started, *this is the
  // caller's.
  bool start(napi_env env, const napi_value* arguments, size_t count, napi_value settle);

 protected:
  AsyncJob() = default;
  virtual int execute() = 0;  // a fault, or 0

 private:
  void release();
  static void wait(void* self);

  napi_env env_ = nullptr;
  napi_async_work work_ = nullptr;
  napi_ref held_ = nullptr;  // an array: settle, then the arguments
  int fault_ = 0;
  std::mutex mutex_;
  std::condition_variable ended_;
  bool has_ended_ = false;
};

}  // namespace simdnorm

#endif  // SIMDNORM_BINDINGS_ASYNC_H_
