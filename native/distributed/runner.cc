#include "native/distributed/runner.h"

#include "native/parallel/start_thread.h"

namespace simdnorm::distributed {

Runner::~Runner() {
  close();
  {
    Lock lock(mutex_);
    while (served_) changed_.wait(lock);
  }
  delete engine_;
}

void Runner::run(Work* work) {
  Lock lock(mutex_);
  if (dead_) return;
  append(work);
  const Deadline deadline = work->collective.deadline;
  while (first_ != work) {
    if (changed_.wait_until(lock, deadline) != std::cv_status::timeout || first_ == work) continue;
    remove(work);
    give_up(work);
    return;
  }
  execute_first(lock);
}

bool Runner::start(Work* work) {
  const auto serve = [](void* self) -> void* {
    static_cast<Runner*>(self)->serve();
    return nullptr;
  };
  const Lock lock(mutex_);
  if (!served_ && !closed_) served_ = parallel::start_thread(serve, this);
  if (!served_) return false;
  append(work);
  changed_.notify_all();
  return true;
}

void Runner::close() {
  const Lock lock(mutex_);
  if (closed_) return;
  closed_ = dead_ = true;
  engine_->close();
  changed_.notify_all();
}

void Runner::append(Work* work) {
  work->collective.deadline = std::chrono::steady_clock::now() + work->timeout;
  work->next = nullptr;
  work->has_waited = first_ != nullptr;
  (first_ ? last_->next : first_) = work;
  last_ = work;
}

void Runner::remove(Work* work) {
  Work* before = first_;
  while (before->next != work) before = before->next;
  before->next = work->next;
  if (last_ == work) last_ = before;
}

// Nobody else is to blame, but this rank now is a call behind the others.
void Runner::give_up(Work* work) {
  say(work->collective, "the calls before it took all its time");
  work->outcome = Outcome::kTimeout;
  dead_ = true;
}

void Runner::execute_first(Lock& lock) {
  Work* const work = first_;
  const Collective& c = work->collective;
  if (!dead_ && work->has_waited && std::chrono::steady_clock::now() >= c.deadline) {
    give_up(work);
  } else if (!dead_) {
    lock.unlock();
    work->outcome = work->ranks ? engine_->split(work->ranks, work->count, c, &work->made) : engine_->run(c);
    lock.lock();
    if (work->outcome != Outcome::kOk) dead_ = true;
  }
  first_ = work->next;
  changed_.notify_all();
}

void Runner::serve() {
  Lock lock(mutex_);
  for (;;) {
    // Work without `ended` is done by the thread that waits for it in run().
    while (first_ ? !first_->ended : !closed_) changed_.wait(lock);
    if (!first_) break;
    Work* const work = first_;
    execute_first(lock);
    lock.unlock();
    work->ended(work);
    lock.lock();
  }
  served_ = false;
  changed_.notify_all();
}

}  // namespace simdnorm::distributed
