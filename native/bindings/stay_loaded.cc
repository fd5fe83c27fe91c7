#include "native/bindings/stay_loaded.h"

#ifdef _WIN32
#include <windows.h>
#elif defined(__APPLE__)
#include <dlfcn.h>
#endif

namespace simdnorm {

bool stay_loaded() {
#ifdef _WIN32
  HMODULE self;
  return GetModuleHandleExW(GET_MODULE_HANDLE_EX_FLAG_FROM_ADDRESS | GET_MODULE_HANDLE_EX_FLAG_PIN,
                            reinterpret_cast<LPCWSTR>(&stay_loaded), &self) != 0;
#elif defined(__APPLE__)
  Dl_info self;
  return dladdr(reinterpret_cast<void*>(&stay_loaded), &self) != 0 &&
         dlopen(self.dli_fname, RTLD_NOW | RTLD_NODELETE) != nullptr;
#else
  return true;
#endif
}

}  // namespace simdnorm
