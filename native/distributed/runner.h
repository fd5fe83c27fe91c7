// The operations of one group, one at a time, in the order they were asked for: on the calling thread, or on one of the
// group's own, so that a collective that waits for its peers keeps nobody else from the threads of libuv.
#ifndef SIMDNORM_DISTRIBUTED_RUNNER_H_
#define SIMDNORM_DISTRIBUTED_RUNNER_H_

#include <condition_variable>
#include <mutex>

#include "native/distributed/engine.h"

namespace simdnorm::distributed {

// A collective, or a split where there are ranks. Its timeout counts from the call, whatever else is in the queue.
struct Work {
  Collective collective = {};
  Deadline::duration timeout = {};
  const int* ranks = nullptr;
  int count = 0;
  Engine* made = nullptr;  // by a split
  Outcome outcome = Outcome::kClosed;
  // Of work that was started: called on the group's thread, which does not look at the work afterwards.
  void (*ended)(Work*) = nullptr;

  // The runner's own:
  bool has_waited = false;  // for others
  Work* next = nullptr;
};

class Runner {
 public:
  explicit Runner(Engine* engine) : engine_(engine) {}  // takes it
  ~Runner();                                            // closes, and waits for what was started
  Runner(const Runner&) = delete;
  Runner& operator=(const Runner&) = delete;

  int rank() const { return engine_->rank(); }
  int size() const { return engine_->size(); }
  void run(Work* work);    // returns with its outcome
  bool start(Work* work);  // false: there is no thread to be had
  void close();            // from any thread: all work ends with kClosed, soon

 private:
  using Lock = std::unique_lock<std::mutex>;
  void append(Work* work);
  void remove(Work* work);  // which is not the first
  void give_up(Work* work);
  void execute_first(Lock& lock);
  void serve();

  Engine* const engine_;
  std::mutex mutex_;
  std::condition_variable changed_;
  Work *first_ = nullptr, *last_ = nullptr;  // the first is running, or about to
  bool dead_ = false;                        // an operation has failed, or the group was closed
  bool closed_ = false;
  bool served_ = false;  // by a thread
};

}  // namespace simdnorm::distributed

#endif  // SIMDNORM_DISTRIBUTED_RUNNER_H_
