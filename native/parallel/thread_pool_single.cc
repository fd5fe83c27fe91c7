// The pool of a target without threads: the caller does it all, whatever number is asked for.
#include "native/parallel/thread_pool.h"

namespace simdnorm {
namespace parallel {

size_t threads() { return 1; }
void set_threads(size_t) {}
void run(size_t, size_t items, size_t, Body body, void* context) { body(context, 0, items, 0); }

}  // namespace parallel
}  // namespace simdnorm
