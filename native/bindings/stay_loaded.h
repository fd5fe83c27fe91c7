// Node unloads an addon that only a Worker has loaded when the Worker ends, under the feet of the pool's threads.
#ifndef SIMDNORM_BINDINGS_STAY_LOADED_H_
#define SIMDNORM_BINDINGS_STAY_LOADED_H_

namespace simdnorm {

// Keeps this addon in the process for good, or returns false. On Linux the linker has said so already (-z nodelete).
bool stay_loaded();

}  // namespace simdnorm

#endif  // SIMDNORM_BINDINGS_STAY_LOADED_H_
