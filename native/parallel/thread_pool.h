// One pool for the process. The work is cut where the caller says, never where the number of threads says, so who
// computes what never changes a result.
//
// Each thread has a contiguous part of the items, the same on every call, so that a repeated call finds its data in
// the same core's cache; it claims the part in grains from the front, and when it is done takes grains from the far
// end of the others' parts. The caller works too and waits only for grains that somebody has begun: where a helper gets
// no processor, the caller does it all. Helpers wait for some 50 us after work, offering their core to others, then
// sleep; a job too short for them to come in time does not wake them. See node bench/busy.mjs.
#ifndef SIMDNORM_PARALLEL_THREAD_POOL_H_
#define SIMDNORM_PARALLEL_THREAD_POOL_H_

#include <stddef.h>

namespace simdnorm {
namespace parallel {

constexpr size_t kMaxThreads = 256;

size_t threads();            // as set; 1 until then
void set_threads(size_t n);  // 1..kMaxThreads, the caller included

// body(context, begin, end, worker) over [0, items) in grains, by at most `team` threads; worker < team tells
// concurrent calls apart. Callers from several threads take turns. A helper that cannot be started is done without.
// Called inside a body, it is done whole on that thread, as worker 0.
using Body = void (*)(void* context, size_t begin, size_t end, size_t worker);
void run(size_t team, size_t items, size_t grain, Body body, void* context);

// The threads of one op. Asked for once: another thread may raise the number while this one, its working memory
// measured for so many, waits for its turn.
class Team {
 public:
  explicit Team(bool alone) : size_(alone ? 1 : threads()) {}
  size_t size() const { return size_; }

  // How many items a thread claims at a time: some 256 KiB of traffic, and at least two claims for each thread.
  size_t grain(size_t items, size_t bytes_each) const {
    const size_t by_bytes = (size_t(256) << 10) / (bytes_each > 0 ? bytes_each : 1);
    const size_t by_share = items / (2 * size_);
    const size_t grain = by_bytes < by_share ? by_bytes : by_share;
    return grain > 0 ? grain : 1;
  }

  // f(begin, end, worker)
  template <class F>
  void for_each(size_t items, size_t grain, F f) const {
    if (items == 0) return;
    if (size_ == 1 || items <= grain) {
      f(size_t(0), items, size_t(0));
      return;
    }
    const Body body = [](void* self, size_t begin, size_t end, size_t worker) {
      (*static_cast<F*>(self))(begin, end, worker);
    };
    run(size_, items, grain, body, &f);
  }

 private:
  size_t size_;
};

}  // namespace parallel
}  // namespace simdnorm

#endif  // SIMDNORM_PARALLEL_THREAD_POOL_H_
