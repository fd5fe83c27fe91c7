#include "native/bindings/mpi.h"

#include "native/distributed/mpi.h"

namespace simdnorm::distributed {
namespace {

napi_value number(napi_env env, int n) {
  napi_value value = nullptr;
  napi_create_int32(env, n, &value);
  return value;
}

template <class T>
T* array(napi_env env, napi_value value, napi_typedarray_type wanted, size_t elements) {
  napi_typedarray_type type = napi_uint8_clamped_array;
  size_t length = 0;
  void* data = nullptr;
  const bool is_array = napi_get_typedarray_info(env, value, &type, &length, &data, nullptr, nullptr) == napi_ok;
  return is_array && type == wanted && length == elements ? static_cast<T*>(data) : nullptr;
}

napi_value load(napi_env env, napi_callback_info info) {
  enum { kLibrary, kDetailText, kArguments };
  size_t count = kArguments, length = 0;
  napi_value values[kArguments];
  char name[256];
  if (napi_get_cb_info(env, info, &count, values, nullptr, nullptr) != napi_ok) return number(env, 0);
  char* const detail = array<char>(env, values[kDetailText], napi_uint8_array, kDetail);
  if (!detail) return number(env, 0);
  Collective c = {};
  c.detail = detail;
  if (napi_get_value_string_utf8(env, values[kLibrary], name, sizeof name, &length) != napi_ok ||
      length + 1 == sizeof name || strlen(name) != length) {
    say(c, "this is no name of a file");
    return number(env, 0);
  }
  return number(env, mpi_load(name, detail));
}

napi_value open(napi_env env, napi_callback_info info) {
  enum { kTimeout, kMade, kDetailText, kArguments };
  size_t count = kArguments;
  napi_value values[kArguments];
  double milliseconds = 0;
  const napi_value failed = number(env, static_cast<int>(Outcome::kFailed));
  if (napi_get_cb_info(env, info, &count, values, nullptr, nullptr) != napi_ok) return failed;
  double* const made = array<double>(env, values[kMade], napi_float64_array, 3);
  char* const detail = array<char>(env, values[kDetailText], napi_uint8_array, kDetail);
  Deadline::duration timeout;
  if (!made || !detail) return failed;
  if (napi_get_value_double(env, values[kTimeout], &milliseconds) != napi_ok || !duration_of(milliseconds, &timeout)) {
    Collective c = {};
    c.detail = detail;
    say(c, "the timeout is no length of time");
    return failed;
  }
  Engine* engine = nullptr;
  Outcome outcome = mpi_open(timeout, detail, &engine);
  if (outcome == Outcome::kOk) {
    made[1] = engine->rank();
    made[2] = engine->size();
    made[0] = adopt(env, engine);
    if (made[0] < 0) outcome = Outcome::kFailed;
  }
  return number(env, static_cast<int>(outcome));
}

napi_value abandon(napi_env, napi_callback_info) {
  mpi_abandon();
  return nullptr;
}

}  // namespace

const Function mpi_functions[kMpiFunctions] = {
    {"mpiLoad", load},
    {"mpiOpen", open},
    {"mpiAbandon", abandon},
};

}  // namespace simdnorm::distributed
