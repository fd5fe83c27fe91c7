#include "native/bindings/memory.h"

#include <stddef.h>
#include <stdint.h>

#ifdef __linux__
#include <sys/mman.h>
#endif

#include "native/bindings/arguments.h"

namespace simdnorm {
namespace {

// Of x64, and of arm64 with pages of 4 KiB: there the advice saves most. Elsewhere it is taken in larger units or not.
constexpr uintptr_t kHugePage = uintptr_t{2} << 20;
constexpr uintptr_t kCacheLine = 64;

struct Memory {
  uintptr_t begin;
  size_t length;
};

// False for anything but an ArrayBuffer, which may be detached: then it has no bytes.
bool memory_of(napi_env env, napi_callback_info info, Memory* memory) {
  size_t count = 1;
  napi_value value;
  void* data = nullptr;
  memory->length = 0;
  bool is = false;
  if (napi_get_cb_info(env, info, &count, &value, nullptr, nullptr) != napi_ok ||
      napi_is_arraybuffer(env, value, &is) != napi_ok || !is ||
      napi_get_arraybuffer_info(env, value, &data, &memory->length) != napi_ok) {
    return false;
  }
  memory->begin = reinterpret_cast<uintptr_t>(data);
  return true;
}

}  // namespace

double advise_huge_pages(napi_env env, napi_callback_info info) {
  Memory memory;
  if (!memory_of(env, info, &memory)) return static_cast<int>(Fault::kType) * 16;
#ifdef MADV_HUGEPAGE
  const uintptr_t from = (memory.begin + kHugePage - 1) & ~(kHugePage - 1);
  const uintptr_t to = (memory.begin + memory.length) & ~(kHugePage - 1);
  if (memory.length > 0 && from < to) madvise(reinterpret_cast<void*>(from), to - from, MADV_HUGEPAGE);
#endif
  return 0;
}

double bytes_to_cache_line(napi_env env, napi_callback_info info) {
  Memory memory;
  if (!memory_of(env, info, &memory)) return -1;
  return static_cast<double>(-memory.begin & (kCacheLine - 1));
}

}  // namespace simdnorm
