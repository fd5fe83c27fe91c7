#ifndef SIMDNORM_PARALLEL_START_THREAD_H_
#define SIMDNORM_PARALLEL_START_THREAD_H_

namespace simdnorm {
namespace parallel {

// A detached thread, or false where none can be had: std::thread would abort without exceptions.
bool start_thread(void* (*entry)(void*), void* argument);

}  // namespace parallel
}  // namespace simdnorm

#endif  // SIMDNORM_PARALLEL_START_THREAD_H_
