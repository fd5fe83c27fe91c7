// Windows: where the functions of Node-API are found. An import library would bind them to a module called node.exe,
// and loading would fail in Bun, Deno, Electron and any renamed Node. node_api.h declares them dllimport, so every call
// goes through a pointer __imp_<name>: these are those pointers, looked up in whatever program has loaded this.
#ifdef _WIN32
#include <windows.h>

namespace {
void* find(const char* name) {
  // As GetProcAddress has it: a pointer to any function comes out as one to a certain kind.
  return reinterpret_cast<void*>(GetProcAddress(GetModuleHandleW(nullptr), name));
}
}  // namespace

extern "C" {
#define SIMDNORM_NODE_API(name)    \
  extern void* const __imp_##name; \
  void* const __imp_##name = find(#name);
#include "native/headers/node_api_functions.inc"
}
#endif
