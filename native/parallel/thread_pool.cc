#include "native/parallel/thread_pool.h"

#include <stdint.h>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <mutex>
#include <new>
#include <thread>

#include "native/parallel/float_environment.h"
#include "native/parallel/start_thread.h"

namespace simdnorm {
namespace parallel {
namespace {

inline void pause() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  __asm__ volatile("yield");
#endif
}

using Clock = std::chrono::steady_clock;
constexpr auto kSpin = std::chrono::microseconds(50);         // a thread waits so long before it sleeps
constexpr auto kWorthWaking = std::chrono::microseconds(15);  // a job so long is worth a sleeping helper

// Whether done() within kSpin. The processor is offered to others all the while. A thread that spins on the core of the
// one it waits for holds it up; and one that has spun its time slice away loses the core in the middle of a grain, for
// milliseconds, where one that has yielded loses it here.
template <class F>
bool spin_until(F done) {
  const Clock::time_point end = Clock::now() + kSpin;
  do {
    for (int i = 0; i < 32; i++) {
      if (done()) return true;
      pause();
    }
    std::this_thread::yield();
  } while (Clock::now() < end);
  return done();
}

thread_local bool inside_job = false;  // where a wait for the pool would never end

// Grains [next, end) of one thread's part, in one word so that both ends move atomically.
class alignas(64) Part {
 public:
  void reset(uint32_t begin, uint32_t end) { word_.store(pack(begin, end)); }
  bool take_front(size_t* grain) {
    uint64_t w = word_.load();
    while (next(w) < end(w)) {
      if (!word_.compare_exchange_weak(w, pack(next(w) + 1, end(w)))) continue;
      *grain = next(w);
      return true;
    }
    return false;
  }
  bool take_back(size_t* grain) {
    uint64_t w = word_.load();
    while (next(w) < end(w)) {
      if (!word_.compare_exchange_weak(w, pack(next(w), end(w) - 1))) continue;
      *grain = end(w) - 1;
      return true;
    }
    return false;
  }

 private:
  static uint64_t pack(uint32_t next, uint32_t end) { return (static_cast<uint64_t>(end) << 32) | next; }
  static uint32_t next(uint64_t w) { return static_cast<uint32_t>(w); }
  static uint32_t end(uint64_t w) { return static_cast<uint32_t>(w >> 32); }
  std::atomic<uint64_t> word_{0};
};

class Pool {
 public:
  size_t wanted() const { return wanted_.load(std::memory_order_relaxed); }
  void want(size_t n) { wanted_.store(n); }

  void run(size_t team, size_t items, size_t grain, Body body, void* context) {
    if (inside_job) return body(context, 0, items, 0);
    const std::lock_guard<std::mutex> turn(turn_);
    while (helpers_ + 1 < team && start_helper()) {
    }
    if (team > helpers_ + 1) team = helpers_ + 1;
    if (team != team_.load()) {
      const std::lock_guard<std::mutex> lock(sleep_);
      team_.store(team);
      enlist_.notify_all();
    }

    // A part's ends are 32 bits; coarser grains keep any number of items within them.
    while ((items + grain - 1) / grain > UINT32_MAX) grain *= 2;
    const size_t grains = (items + grain - 1) / grain;
    job_ = {items, grain, body, context, team};
    for (size_t i = 0; i < team; i++) {
      parts_[i].reset(static_cast<uint32_t>(grains * i / team), static_cast<uint32_t>(grains * (i + 1) / team));
    }
    open_.store(true);
    round_.fetch_add(1);
    if (asleep_.load() > 0) began_ = Clock::now();
    work(0);
    open_.store(false);
    wait_for_helpers();
    if (asleep_.load() > 0) ended_ = Clock::now();
  }

 private:
  struct Job {
    size_t items, grain;
    Body body;
    void* context;
    size_t team;
  };

  // Waking a sleeping helper takes the caller some 8 us, and it comes some 30 us later. So not for a short job, unless
  // another has just been: they may come in numbers.
  void wake_helpers() {
    if (asleep_.load() == 0) return;
    if (Clock::now() - began_ < kWorthWaking && began_ - ended_ > kSpin) return;
    const std::lock_guard<std::mutex> lock(sleep_);
    wake_.notify_all();
  }

  void wait_for_helpers() {
    const auto done = [this] { return busy_.load() == 0; };
    if (done() || spin_until(done)) return;
    // A helper has lost its core: an idle one here may get it going again.
    std::unique_lock<std::mutex> lock(sleep_);
    waiting_.store(true);
    while (!done()) done_.wait(lock);
    waiting_.store(false);
  }

  bool start_helper() {
    starting_ = helpers_ + 1;
    started_.store(false);
    if (!start_thread(&Pool::helper, this)) return false;
    while (!started_.load()) pause();
    helpers_++;
    return true;
  }

  static void* helper(void* self) {
    static_cast<Pool*>(self)->serve();
    return nullptr;
  }

  void serve() {
    const size_t me = starting_;
    uint64_t seen = round_.load();
    started_.store(true);
    for (;;) {
      if (me >= team_.load()) {
        std::unique_lock<std::mutex> lock(sleep_);
        while (me >= team_.load()) enlist_.wait(lock);
      }
      if (!spin_until([&] { return round_.load() != seen; })) {
        std::unique_lock<std::mutex> lock(sleep_);
        asleep_.fetch_add(1);
        while (round_.load() == seen) wake_.wait(lock);
        asleep_.fetch_sub(1);
      }
      // busy_ first, then open_: the caller closes first and then waits for busy_, so a helper that comes late either
      // is waited for or finds the job closed.
      seen = round_.load();
      busy_.fetch_add(1);
      if (open_.load() && me < job_.team) work(me);
      if (busy_.fetch_sub(1) == 1 && waiting_.load()) {
        const std::lock_guard<std::mutex> lock(sleep_);
        done_.notify_one();
      }
    }
  }

  void work(size_t me) {
    const FloatEnvironment environment;
    inside_job = true;
    size_t grain;
    while (parts_[me].take_front(&grain)) {
      call(grain, me);
      if (me == 0) wake_helpers();
    }
    for (size_t i = 1; i < job_.team; i++) {
      while (parts_[(me + i) % job_.team].take_back(&grain)) call(grain, me);
    }
    inside_job = false;
  }

  void call(size_t grain, size_t me) {
    const size_t begin = grain * job_.grain;
    const size_t end = begin + job_.grain;
    job_.body(job_.context, begin, end < job_.items ? end : job_.items, me);
  }

  std::mutex turn_;
  std::atomic<size_t> wanted_{1};
  size_t helpers_ = 0;
  size_t starting_ = 0;
  std::atomic<bool> started_{false};

  Job job_ = {};
  Part parts_[kMaxThreads];
  alignas(64) std::atomic<uint64_t> round_{0};
  alignas(64) std::atomic<int> busy_{0};
  std::atomic<bool> open_{false};
  std::atomic<int> asleep_{0};
  std::mutex sleep_;
  std::condition_variable wake_, done_, enlist_;
  std::atomic<size_t> team_{1};  // of the latest job; helpers beyond it wait to be enlisted
  std::atomic<bool> waiting_{false};
  Clock::time_point began_, ended_;  // of a job with a sleeping helper
};

// Never destroyed: helpers outlive main() and every Worker. The addon is linked with -z nodelete for the same reason.
Pool& pool() {
  alignas(Pool) static unsigned char memory[sizeof(Pool)];
  static Pool* const instance = ::new (static_cast<void*>(memory)) Pool;
  return *instance;
}

}  // namespace

size_t threads() { return pool().wanted(); }
void set_threads(size_t n) { pool().want(n < 1 ? 1 : n > kMaxThreads ? kMaxThreads : n); }
void run(size_t team, size_t items, size_t grain, Body body, void* context) {
  pool().run(team, items, grain, body, context);
}

}  // namespace parallel
}  // namespace simdnorm
