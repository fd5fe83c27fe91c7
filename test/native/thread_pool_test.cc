// The pool hands out every item exactly once, whoever calls and however many threads there are, to no more than the
// caller asked for.
#include "native/parallel/thread_pool.h"

#include <atomic>
#include <chrono>
#include <memory>
#include <thread>
#include <vector>

#include "test/native/check.h"
#include "test/native/float_mode.h"

namespace parallel = simdnorm::parallel;

namespace {

using Clock = std::chrono::steady_clock;

// What one call of run() did. Workers count; the caller judges afterwards.
class Job {
 public:
  Job(size_t items, size_t grain) : items_(items), grain_(grain), seen_(new std::atomic<int>[items]) {
    for (size_t i = 0; i < items; i++) seen_[i] = 0;
    for (auto& b : busy_) b = 0;
  }
  void run(size_t threads) {
    const parallel::Body body = [](void* self, size_t begin, size_t end, size_t worker) {
      static_cast<Job*>(self)->body(begin, end, worker);
    };
    parallel::run(threads, items_, grain_, body, this);
  }
  void run(const parallel::Team& team) {
    team.for_each(items_, grain_, [this](size_t begin, size_t end, size_t worker) { body(begin, end, worker); });
  }
  bool each_once() const {
    for (size_t i = 0; i < items_; i++) {
      if (seen_[i] != 1) return false;
    }
    return true;
  }
  bool faulty() const { return faulty_; }
  size_t workers() const { return workers_; }  // one more than the highest

 private:
  void body(size_t begin, size_t end, size_t worker) {
    // A piece is not empty, inside, one grain long but for the last or the whole; a worker has one piece at a time.
    const bool whole = end - begin == grain_ || end == items_;
    if (begin >= end || end > items_ || begin % grain_ != 0 || !whole || worker >= parallel::kMaxThreads ||
        busy_[worker]++ != 0) {
      faulty_ = true;
      return;
    }
    for (size_t i = begin; i < end; i++) seen_[i]++;
    size_t most = workers_;
    while (most < worker + 1 && !workers_.compare_exchange_weak(most, worker + 1)) {
    }
    busy_[worker]--;
  }

  const size_t items_, grain_;
  const std::unique_ptr<std::atomic<int>[]> seen_;
  std::atomic<int> busy_[parallel::kMaxThreads];
  std::atomic<size_t> workers_{0};
  std::atomic<bool> faulty_{false};
};

void check(const Job& job, size_t threads, size_t items, size_t grain) {
  CHECK(job.each_once(), "%zu threads, %zu items by %zu", threads, items, grain);
  CHECK(!job.faulty(), "%zu threads, %zu items by %zu", threads, items, grain);
  CHECK(job.workers() <= threads, "%zu threads, %zu items by %zu: %zu", threads, items, grain, job.workers());
}

void settings() {
  CHECK(parallel::threads() == 1, "until something else is asked for");
  parallel::set_threads(0);
  CHECK(parallel::threads() == 1);
  parallel::set_threads(parallel::kMaxThreads + 1);
  CHECK(parallel::threads() == parallel::kMaxThreads);
  parallel::set_threads(3);
  CHECK(parallel::threads() == 3);
}

// Until `count` workers have had a share of one job: what the scheduler is not asked for is not waited for long.
template <class F>
bool until_all_work(size_t count, F each) {
  const auto end = Clock::now() + std::chrono::seconds(20);
  do {
    std::atomic<size_t> workers{0};
    std::atomic<bool> worked[parallel::kMaxThreads] = {};
    const parallel::Team team(false);
    team.for_each(200, 1, [&](size_t, size_t, size_t worker) {
      each();
      if (!worked[worker].exchange(true)) workers++;
      std::this_thread::sleep_for(std::chrono::microseconds(20));
    });
    if (workers == count) return true;
  } while (Clock::now() < end);
  return false;
}

// Helpers inherit the mode of the thread that starts them: here a hostile one, and no helper has been started yet.
void float_mode() {
  const test::Mode usual = test::mode();
  std::atomic<int> hostile{0};
  test::set_mode(test::kHostile);
  const bool all = until_all_work(3, [&] {
    if (test::mode() != usual) hostile++;
  });
  const test::Mode after = test::mode();
  test::set_mode(usual);
  CHECK(all, "helpers take part");
  CHECK(hostile == 0);
  CHECK(after == test::kHostile, "the caller's own comes back");
}

void each_item_once() {
  for (const size_t threads : {1, 7, 2, 3, 1, 2}) {
    parallel::set_threads(threads);
    const parallel::Team team(false);
    for (const size_t items : {1, 2, 3, 7, 15, 64, 101, 4097}) {
      for (const size_t grain : {1, 2, 5, 64, 5000}) {
        Job job(items, grain), by_team(items, grain);
        job.run(threads);
        by_team.run(team);
        check(job, threads, items, grain);
        check(by_team, threads, items, grain);
      }
    }
  }
}

// Callers stand for Workers: they come and go, call at any time, and the pool stays.
void several_callers() {
  constexpr size_t kGenerations = 6, kCallers = 4, kCalls = 40;
  for (size_t generation = 0; generation < kGenerations; generation++) {
    std::vector<std::unique_ptr<Job>> jobs;
    for (size_t i = 0; i < kCallers * kCalls; i++) jobs.emplace_back(new Job(1 + i % 97, 1 + i % 5));
    std::vector<std::thread> callers;
    for (size_t c = 0; c < kCallers; c++) {
      callers.emplace_back([&jobs, c] {
        for (size_t i = 0; i < kCalls; i++) jobs[c * kCalls + i]->run(1 + c);
      });
    }
    for (std::thread& caller : callers) caller.join();
    for (size_t i = 0; i < jobs.size(); i++) check(*jobs[i], 1 + i / kCalls, 1 + i % 97, 1 + i % 5);
  }
}

// Jobs come at every moment of a helper's way to sleep, and after.
void sleeping_helpers() {
  parallel::set_threads(3);
  for (int us = 0; us < 300; us += 3) {
    std::this_thread::sleep_for(std::chrono::microseconds(us));
    Job job(60, 1);
    const parallel::Team team(false);
    job.run(team);
    check(job, 3, 60, 1);
  }
  std::this_thread::sleep_for(std::chrono::milliseconds(20));
  CHECK(until_all_work(3, [] {}), "a long job wakes them");
}

// Whether the others did all but the first grain of one worker, who waited for that.
bool taken_from(size_t held) {
  constexpr size_t kItems = 90;
  std::atomic<size_t> done{0};
  std::atomic<bool> holds{false}, alone{false};
  const auto end = Clock::now() + std::chrono::seconds(2);
  const parallel::Team team(false);
  team.for_each(kItems, 1, [&](size_t, size_t, size_t worker) {
    if (worker == held && !holds.exchange(true)) {
      while (done < kItems - 1 && Clock::now() < end) std::this_thread::yield();
      alone = done < kItems - 1;
    }
    // The held one gets to its first grain in time.
    if (worker != held && !holds) std::this_thread::sleep_for(std::chrono::microseconds(100));
    done++;
  });
  CHECK(done == kItems);
  return !alone;
}

// Whoever is held up in his first grain, the others take the rest of his part. Where the machine is so busy that they
// were asleep when the caller was held, nobody has woken them yet: then once more.
void stealing() {
  parallel::set_threads(3);
  for (size_t held = 0; held < 3; held++) {
    bool taken = false;
    for (int attempt = 0; attempt < 10 && !taken; attempt++) taken = taken_from(held);
    CHECK(taken, "worker %zu", held);
  }
}

// A nested call is done whole by the thread that makes it.
void nested() {
  parallel::set_threads(3);
  std::atomic<size_t> sum{0}, calls{0};
  std::atomic<bool> faulty{false};
  const parallel::Team team(false);
  team.for_each(40, 1, [&](size_t outer, size_t, size_t) {
    const std::thread::id thread = std::this_thread::get_id();
    const parallel::Team inner(false);
    inner.for_each(10, 1, [&](size_t begin, size_t end, size_t worker) {
      if (begin != 0 || end != 10 || worker != 0 || std::this_thread::get_id() != thread) faulty = true;
      sum += outer;
      calls++;
    });
  });
  CHECK(!faulty);
  CHECK(calls == 40);
  CHECK(sum == 780);
}

// One thread changes the setting while another works: a team stays as large as when it was made.
void changes_in_between() {
  std::atomic<bool> done{false};
  std::thread changer([&done] {
    for (size_t n = 0; !done; n++) {
      parallel::set_threads(1 + n % 7);
      std::this_thread::sleep_for(std::chrono::microseconds(10));
    }
  });
  for (size_t i = 0; i < 300; i++) {
    Job job(1 + i % 50, 1 + i % 3);
    const parallel::Team team(false);
    job.run(team);
    check(job, team.size(), 1 + i % 50, 1 + i % 3);
  }
  done = true;
  changer.join();
}

void team() {
  parallel::set_threads(3);
  for (const bool alone : {true, false}) {
    const parallel::Team team(alone);
    CHECK(team.size() == (alone ? 1u : 3u));
    CHECK(team.grain(0, 0) == 1 && team.grain(1, size_t(1) << 40) == 1);
    CHECK(team.grain(1000, 1) <= 1000 / (2 * team.size()));
    CHECK(team.grain(1000000, 1024) == 256, "256 KiB");
    bool called = false;
    team.for_each(0, 1, [&](size_t, size_t, size_t) { called = true; });
    CHECK(!called);
    std::atomic<size_t> sum{0};
    team.for_each(100, 7, [&](size_t begin, size_t end, size_t) {
      for (size_t i = begin; i < end; i++) sum += i;
    });
    CHECK(sum == 4950);
  }
}

}  // namespace

int main() {
  settings();
  float_mode();
  each_item_once();
  several_callers();
  sleeping_helpers();
  stealing();
  nested();
  changes_in_between();
  team();
  return test::finish();
}
