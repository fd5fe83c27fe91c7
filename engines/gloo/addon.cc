// The addon of Gloo groups: what native/bindings/group.h has, and how a group comes to be.
//
// glooOpen(rank, size, host, card, detail) makes a handle, or -1.
//
// `card` becomes what the other ranks need to reach this one, of cardBytes(size) bytes.
//
// The group's first collective connects it: a broadcast of the Uint8Array of all ranks' cards, by rank.
#include <node_api.h>
#include <string.h>

#include <exception>
#include <memory>
#include <string>
#include <vector>

#include "engines/gloo/engine.h"
#include "native/bindings/group.h"

namespace simdnorm::distributed {
namespace {

constexpr int kMostRanks = 1 << 16;

class Call {
 public:
  Call(napi_env env, napi_callback_info info) : env(env) {
    size_t count = kMost;
    napi_get_cb_info(env, info, &count, values, nullptr, nullptr);
  }
  int whole(size_t i, int below) const {
    double n = -1;
    if (napi_get_value_double(env, values[i], &n) != napi_ok || !(n >= 0 && n < below)) return -1;
    return n == static_cast<int>(n) ? static_cast<int>(n) : -1;
  }
  std::string text(size_t i) const {
    char text[256] = "";
    size_t length = 0;
    napi_get_value_string_utf8(env, values[i], text, sizeof text, &length);
    return text;
  }
  // Null unless it is a Uint8Array of so many bytes.
  uint8_t* bytes(size_t i, size_t length) const {
    napi_typedarray_type type;
    size_t has = 0;
    void* data = nullptr;
    if (napi_get_typedarray_info(env, values[i], &type, &has, &data, nullptr, nullptr) != napi_ok) return nullptr;
    return type == napi_uint8_array && has == length ? static_cast<uint8_t*>(data) : nullptr;
  }
  napi_value answer(double n) const {
    napi_value value = nullptr;
    napi_create_double(env, n, &value);
    return value;
  }

  static constexpr size_t kMost = 5;
  const napi_env env;
  napi_value values[kMost];
};

napi_value card_bytes(napi_env env, napi_callback_info info) {
  const Call call(env, info);
  const int size = call.whole(0, kMostRanks);
  return call.answer(size < 0 ? -1 : static_cast<double>(GlooEngine::card_bytes(size)));
}

napi_value open(napi_env env, napi_callback_info info) {
  const Call call(env, info);
  const int size = call.whole(1, kMostRanks), rank = call.whole(0, size);
  uint8_t* const detail = call.bytes(4, kDetail);
  if (!detail || size < 1 || rank < 0) return call.answer(-1);
  uint8_t* const card = call.bytes(3, GlooEngine::card_bytes(size));
  if (!card) return call.answer(-1);
  Collective c{};
  c.detail = reinterpret_cast<char*>(detail);
  say(c, "out of memory");
  try {
    auto engine = std::make_unique<GlooEngine>(rank, size, call.text(2));
    const std::vector<uint8_t> own = engine->card();
    memcpy(card, own.data(), own.size());
    return call.answer(adopt(env, engine.release()));
  } catch (const std::exception& e) {
    say(c, e.what());
  }
  return call.answer(-1);
}

// Nothing that is thrown may reach node.
template <napi_value (*body)(napi_env, napi_callback_info)>
napi_value guarded(napi_env env, napi_callback_info info) {
  try {
    return body(env, info);
  } catch (...) {
    napi_throw_error(env, "ERR_ENGINE", "gloo: an exception in its addon");
  }
  return nullptr;
}

napi_value init(napi_env env, napi_value exports) {
  const Function own[] = {{"glooOpen", guarded<open>}, {"cardBytes", guarded<card_bytes>}};
  const auto add = [&](const Function& f) {
    napi_value function;
    if (napi_create_function(env, f.name, NAPI_AUTO_LENGTH, f.callback, nullptr, &function) == napi_ok) {
      napi_set_named_property(env, exports, f.name, function);
    }
  };
  for (const Function& f : own) add(f);
  for (const Function& f : group_functions) add(f);
  return exports;
}

}  // namespace
}  // namespace simdnorm::distributed

NAPI_MODULE_INIT() { return simdnorm::distributed::init(env, exports); }
