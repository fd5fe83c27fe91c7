// Windows: where the functions of Node-API are found. An import library would bind them to a module called node.exe,
// and loading would fail in Bun, Deno, Electron and any renamed Node. node_api.h declares them dllimport, so every call
// goes through a pointer __imp_<name>: these are those pointers, looked up in whatever program has loaded this, or in
// its Node where that is a library.
#ifdef _WIN32
#include <node_api.h>
#include <windows.h>

namespace {

HMODULE host() {
  constexpr const wchar_t* kNames[] = {nullptr, L"libnode.dll", L"node.dll"};  // the program itself first
  for (const wchar_t* name : kNames) {
    const HMODULE module = GetModuleHandleW(name);
    if (module && GetProcAddress(module, "napi_create_function")) return module;
  }
  return GetModuleHandleW(nullptr);
}

// Instead of one that the host lacks: it fails, and does not crash.
napi_status missing() { return napi_generic_failure; }

void* find(const char* name) {
  static const HMODULE module = host();
  const FARPROC found = GetProcAddress(module, name);
  // As GetProcAddress has it: a pointer to any function comes out as one to a certain kind.
  return found ? reinterpret_cast<void*>(found) : reinterpret_cast<void*>(&missing);
}

}  // namespace

extern "C" {
#define SIMDNORM_NODE_API(name)    \
  extern void* const __imp_##name; \
  void* const __imp_##name = find(#name);
#include "native/headers/node_api_functions.inc"
}
#endif
