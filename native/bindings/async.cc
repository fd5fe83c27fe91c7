#include "native/bindings/async.h"

#include <stdint.h>

namespace simdnorm {

bool AsyncJob::start(napi_env env, const napi_value* arguments, size_t count, napi_value settle) {
  env_ = env;
  const auto execute = [](napi_env, void* self) {
    AsyncJob* const job = static_cast<AsyncJob*>(self);
    job->fault_ = job->execute();
    const std::lock_guard<std::mutex> lock(job->mutex_);
    job->has_ended_ = true;
    job->ended_.notify_all();
  };
  const auto complete = [](napi_env env, napi_status status, void* self) {
    AsyncJob* const job = static_cast<AsyncJob*>(self);
    napi_value held, settle, receiver, fault;
    if (status == napi_ok && napi_get_reference_value(env, job->held_, &held) == napi_ok &&
        napi_get_element(env, held, 0, &settle) == napi_ok && napi_get_undefined(env, &receiver) == napi_ok &&
        napi_create_int32(env, job->fault_, &fault) == napi_ok) {
      napi_call_function(env, receiver, settle, 1, &fault, nullptr);
    }
    job->release();
    delete job;
  };
  napi_value held, name;
  bool ok = napi_create_array_with_length(env, count + 1, &held) == napi_ok &&
            napi_set_element(env, held, 0, settle) == napi_ok;
  for (size_t i = 0; ok && i < count; i++) {
    ok = napi_set_element(env, held, static_cast<uint32_t>(i + 1), arguments[i]) == napi_ok;
  }
  ok = ok && napi_create_reference(env, held, 1, &held_) == napi_ok &&
       napi_create_string_utf8(env, "simdnorm", NAPI_AUTO_LENGTH, &name) == napi_ok &&
       napi_create_async_work(env, nullptr, name, execute, complete, this, &work_) == napi_ok &&
       napi_add_env_cleanup_hook(env, wait, this) == napi_ok && napi_queue_async_work(env, work_) == napi_ok;
  if (!ok) release();
  return ok;
}

void AsyncJob::release() {
  napi_remove_env_cleanup_hook(env_, wait, this);
  if (work_) napi_delete_async_work(env_, work_);
  if (held_) napi_delete_reference(env_, held_);
}

// The environment ends, with its memory: a Worker was terminated, or the process exits.
void AsyncJob::wait(void* self) {
  AsyncJob* const job = static_cast<AsyncJob*>(self);
  if (napi_cancel_async_work(job->env_, job->work_) == napi_ok) return;
  std::unique_lock<std::mutex> lock(job->mutex_);
  while (!job->has_ended_) job->ended_.wait(lock);
}

}  // namespace simdnorm
