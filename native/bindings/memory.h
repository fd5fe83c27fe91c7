// Where JavaScript's arrays lie. JavaScript allocates and frees them, and keeps the books; here the system is only told
// what they are for.
#ifndef SIMDNORM_BINDINGS_MEMORY_H_
#define SIMDNORM_BINDINGS_MEMORY_H_

#include <napi.h>

namespace simdnorm {

// adviseHugePages(buffer): asks for huge pages under those that lie wholly in the ArrayBuffer. For one that is new: a
// page that has been touched stays as it is. Returns 0, or a fault; what the system answers is its own affair.
double advise_huge_pages(napi_env env, napi_callback_info info);

// bytesToCacheLine(buffer): from the start of the ArrayBuffer to the first multiple of 64, or -1 for another value
double bytes_to_cache_line(napi_env env, napi_callback_info info);

}  // namespace simdnorm

#endif  // SIMDNORM_BINDINGS_MEMORY_H_
