#include "native/bindings/mpi.h"

#include <condition_variable>
#include <memory>
#include <mutex>
#include <new>

#include "native/distributed/mpi.h"
#include "native/parallel/start_thread.h"

namespace simdnorm::distributed {
namespace {

napi_value number(napi_env env, int n) {
  napi_value value = nullptr;
  napi_create_int32(env, n, &value);
  return value;
}

template <class T>
T* array(napi_env env, napi_value value, napi_typedarray_type wanted, size_t elements) {
  napi_typedarray_type type = napi_uint8_clamped_array;
  size_t length = 0;
  void* data = nullptr;
  const bool is_array = napi_get_typedarray_info(env, value, &type, &length, &data, nullptr, nullptr) == napi_ok;
  return is_array && type == wanted && length == elements ? static_cast<T*>(data) : nullptr;
}

napi_value load(napi_env env, napi_callback_info info) {
  enum { kLibrary, kDetailText, kArguments };
  size_t count = kArguments, length = 0;
  napi_value values[kArguments];
  char name[256];
  if (napi_get_cb_info(env, info, &count, values, nullptr, nullptr) != napi_ok) return number(env, 0);
  char* const detail = array<char>(env, values[kDetailText], napi_uint8_array, kDetail);
  if (!detail) return number(env, 0);
  Collective c = {};
  c.detail = detail;
  if (napi_get_value_string_utf8(env, values[kLibrary], name, sizeof name, &length) != napi_ok ||
      length + 1 == sizeof name || strlen(name) != length) {
    say(c, "this is no name of a file");
    return number(env, 0);
  }
  return number(env, mpi_load(name, detail));
}

// MPI knows a rank for each process: one environment (the main thread, a Worker) may be it at a time.
std::mutex g_mutex;
napi_env g_env = nullptr;
int g_turns = 0;

class Turn {
 public:
  explicit Turn(napi_env env) {
    const std::lock_guard<std::mutex> lock(g_mutex);
    has_ = g_turns == 0 || g_env == env;
    if (!has_) return;
    g_env = env;
    g_turns++;
  }
  ~Turn() {
    const std::lock_guard<std::mutex> lock(g_mutex);
    if (has_) g_turns--;
  }
  Turn(const Turn&) = delete;
  Turn& operator=(const Turn&) = delete;
  bool has() const { return has_; }

 private:
  bool has_;
};

// A group of all ranks, as long as it is there.
class World final : public Engine {
 public:
  explicit World(napi_env env) : turn(env) {}
  int rank() const override { return engine->rank(); }
  int size() const override { return engine->size(); }
  Outcome run(const Collective& c) override { return engine->run(c); }
  Outcome split(const int* ranks, int count, const Collective& c, Engine** made) override {
    return engine->split(ranks, count, c, made);
  }
  void close() override { engine->close(); }

  const Turn turn;
  std::unique_ptr<Engine> engine;
};

// On a thread of its own: a process that exits, or a Worker that is terminated, does not wait for one of libuv's.
class Job {
 public:
  explicit Job(napi_env env) : env_(env), world_(new (std::nothrow) World(env)) {}
  bool has_memory() const { return world_ != nullptr; }
  bool has_turn() const { return world_->turn.has(); }

  // The last of `count` arguments is called in the end; all are held until then. False: nothing was started.
  bool start(const napi_value* arguments, uint32_t count) {
    napi_value held, name;
    if (napi_create_array_with_length(env_, count, &held) != napi_ok) return false;
    for (uint32_t i = 0; i < count; i++) {
      if (napi_set_element(env_, held, i, arguments[i]) != napi_ok) return false;
    }
    if (napi_create_reference(env_, held, 1, &held_) != napi_ok) return false;
    settle_argument_ = count - 1;
    const bool started = napi_create_string_utf8(env_, "simdnorm", NAPI_AUTO_LENGTH, &name) == napi_ok &&
                         napi_create_threadsafe_function(env_, nullptr, nullptr, name, 0, 1, nullptr, nullptr, nullptr,
                                                         settle, &settle_) == napi_ok &&
                         napi_add_env_cleanup_hook(env_, end, this) == napi_ok && parallel::start_thread(serve, this);
    if (!started) release();
    return started;
  }

  Opening opening;
  double* made = nullptr;

 private:
  static void* serve(void* self) {
    Job* const job = static_cast<Job*>(self);
    Engine* engine = nullptr;
    job->outcome_ = mpi_open(job->opening, &engine);
    job->world_->engine.reset(engine);
    const std::lock_guard<std::mutex> lock(job->mutex_);
    napi_call_threadsafe_function(job->settle_, job, napi_tsfn_nonblocking);
    job->has_ended_ = true;
    job->changed_.notify_all();
    return nullptr;
  }
  void wait() {
    std::unique_lock<std::mutex> lock(mutex_);
    while (!has_ended_) changed_.wait(lock);
  }
  void release() {
    napi_remove_env_cleanup_hook(env_, end, this);
    if (settle_) napi_release_threadsafe_function(settle_, napi_tsfn_abort);
    napi_delete_reference(env_, held_);
  }

  static void settle(napi_env env, napi_value, void*, void* self) {
    if (!env) return;  // it has ended, and the job
    const std::unique_ptr<Job> job(static_cast<Job*>(self));
    job->wait();
    napi_value held, function, receiver;
    const bool ok = napi_get_reference_value(env, job->held_, &held) == napi_ok &&
                    napi_get_element(env, held, job->settle_argument_, &function) == napi_ok &&
                    napi_get_undefined(env, &receiver) == napi_ok;
    const napi_value outcome = number(env, static_cast<int>(job->conclude()));
    job->release();
    if (ok) napi_call_function(env, receiver, function, 1, &outcome, nullptr);
  }
  Outcome conclude() {
    if (outcome_ != Outcome::kOk) return outcome_;
    made[1] = world_->rank();
    made[2] = world_->size();
    made[0] = adopt(env_, world_.release());
    return made[0] < 0 ? Outcome::kFailed : Outcome::kOk;
  }

  // The environment ends, with its memory.
  static void end(void* self) {
    const std::unique_ptr<Job> job(static_cast<Job*>(self));
    job->opening.stopped.store(true);
    job->wait();
    napi_release_threadsafe_function(job->settle_, napi_tsfn_abort);
  }

  const napi_env env_;
  std::unique_ptr<World> world_;
  napi_threadsafe_function settle_ = nullptr;
  napi_ref held_ = nullptr;  // an array of the arguments
  uint32_t settle_argument_ = 0;
  Outcome outcome_ = Outcome::kFailed;
  std::mutex mutex_;
  std::condition_variable changed_;
  bool has_ended_ = false;
};

napi_value open(napi_env env, napi_callback_info info) {
  enum { kTimeout, kMade, kMissing, kDetailText, kSettle, kArguments };
  size_t count = kArguments;
  napi_value values[kArguments];
  const napi_value failed = number(env, static_cast<int>(Outcome::kFailed));
  if (napi_get_cb_info(env, info, &count, values, nullptr, nullptr) != napi_ok) return failed;
  Collective c = {};
  c.detail = array<char>(env, values[kDetailText], napi_uint8_array, kDetail);
  if (!c.detail) return failed;
  std::unique_ptr<Job> job(new (std::nothrow) Job(env));
  if (!job || !job->has_memory()) {
    say(c, "out of memory");
    return failed;
  }
  if (!job->has_turn()) return number(env, static_cast<int>(Outcome::kClosed));
  Opening& o = job->opening;
  double milliseconds = 0;
  if (napi_get_value_double(env, values[kTimeout], &milliseconds) != napi_ok ||
      !duration_of(milliseconds, &o.timeout)) {
    say(c, "the timeout is no length of time");
    return failed;
  }
  napi_typedarray_type type = napi_int8_array;
  void* missing = nullptr;
  job->made = array<double>(env, values[kMade], napi_float64_array, 3);
  o.detail = c.detail;
  if (!job->made ||
      napi_get_typedarray_info(env, values[kMissing], &type, &o.room, &missing, nullptr, nullptr) != napi_ok ||
      type != napi_uint8_array) {
    say(c, "no memory to report to");
    return failed;
  }
  o.missing = static_cast<uint8_t*>(missing);
  if (!job->start(values, kArguments)) {
    say(c, "no memory, or no thread");
    return failed;
  }
  job.release();  // deletes itself
  return number(env, static_cast<int>(Outcome::kOk));
}

napi_value abandon(napi_env, napi_callback_info) {
  mpi_abandon();
  return nullptr;
}

}  // namespace

const Function mpi_functions[kMpiFunctions] = {
    {"mpiLoad", load},
    {"mpiOpen", open},
    {"mpiAbandon", abandon},
};

}  // namespace simdnorm::distributed
