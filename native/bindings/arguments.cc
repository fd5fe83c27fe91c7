#include "native/bindings/arguments.h"

#include <math.h>
#include <string.h>

namespace simdnorm {

Arguments::Arguments(napi_env env, napi_callback_info info) : env_(env) {
  size_t count = kMost;
  // Fills what was not passed with undefined.
  if (napi_get_cb_info(env, info, &count, values_, nullptr, nullptr) != napi_ok) fail(Fault::kType, 0);
}

int Arguments::fail(Fault kind, size_t argument) {
  if (fault_ == 0) fault_ = static_cast<int>(kind) * 16 + static_cast<int>(argument);
  return fault_;
}

const Arguments::View& Arguments::view(size_t argument) {
  View& v = views_[argument];
  if (v.asked) return v;
  v.asked = true;
  // A type that no call accepts: Node without Float16Array support leaves that of one unset, without an error.
  v.type = napi_int8_array;
  v.is_array =
      napi_get_typedarray_info(env_, values_[argument], &v.type, &v.length, &v.data, nullptr, nullptr) == napi_ok;
  return v;
}

template <>
napi_typedarray_type Arguments::type_of<float>() {
  return napi_float32_array;
}
template <>
napi_typedarray_type Arguments::type_of<double>() {
  return napi_float64_array;
}

bool Arguments::is_float32(size_t argument) {
  const View& v = view(argument);
  if (!v.is_array) {
    fail(Fault::kType, argument);
  } else if (v.type != napi_float32_array && v.type != napi_float64_array) {
    fail(Fault::kDtype, argument);
  }
  return v.type == napi_float32_array;
}

bool Arguments::block(size_t numbers) {
  const View& v = view(0);
  if (!v.is_array) {
    fail(Fault::kType, 0);
  } else if (v.type != napi_float64_array) {
    fail(Fault::kDtype, 0);
  } else if (v.length < numbers) {
    fail(Fault::kLength, 0);
  } else {
    memcpy(numbers_, v.data, numbers * sizeof(double));
  }
  return ok();
}

size_t Arguments::size(size_t i) {
  const double n = numbers_[i];
  if (!(n >= 0 && n <= 9007199254740992.0 && n == floor(n))) {
    fail(Fault::kNumber, 0);
    return 0;
  }
  return static_cast<size_t>(n);
}

Geometry Arguments::geometry() {
  const Geometry g = {size(0), size(1), size(2), size(3), size(4), size(5)};
  if (ok() && !g.valid()) fail(Fault::kNumber, 0);
  return g;
}

template <class T>
size_t Arguments::length(size_t argument) {
  const View& v = view(argument);
  if (!v.is_array) {
    fail(Fault::kType, argument);
  } else if (v.type != type_of<T>()) {
    fail(Fault::kDtype, argument);
  }
  return v.length;
}

template <class T>
T* Arguments::span(size_t argument, size_t length, size_t offset) {
  if (!ok()) return nullptr;
  const View& v = view(argument);
  if (!v.is_array) {
    fail(Fault::kType, argument);
  } else if (v.type != type_of<T>()) {
    fail(Fault::kDtype, argument);
  } else if (offset > v.length || length > v.length - offset) {
    fail(Fault::kLength, argument);
  } else if (length > 0) {
    T* const data = static_cast<T*>(v.data) + offset;
    spans_[argument].begin = reinterpret_cast<const char*>(data);
    spans_[argument].end = reinterpret_cast<const char*>(data + length);
    return data;
  }
  return nullptr;
}

bool Arguments::absent(size_t argument) {
  if (view(argument).is_array) return false;
  napi_valuetype type = napi_undefined;
  napi_typeof(env_, values_[argument], &type);
  return type == napi_undefined || type == napi_null;
}

template <class T>
T* Arguments::optional(size_t argument, size_t length) {
  if (!ok() || absent(argument)) return nullptr;
  const View& v = view(argument);
  if (v.is_array && v.type == type_of<T>() && v.length != length) {
    fail(Fault::kLength, argument);
    return nullptr;
  }
  return span<T>(argument, length);
}

bool Arguments::check_overlaps(bool (*same)(size_t output, size_t other)) {
  for (size_t out = 0; out < kMost && ok(); out++) {
    const Span& a = spans_[out];
    if (a.role != Role::kOut || !a.begin) continue;
    for (size_t other = 0; other < kMost; other++) {
      const Span& b = spans_[other];
      if (other == out || !b.begin || a.end <= b.begin || b.end <= a.begin) continue;
      if (a.begin == b.begin && a.end == b.end && same(out, other)) continue;
      fail(Fault::kOverlap, out);
      break;
    }
  }
  return ok();
}

#define SIMDNORM_INSTANTIATE(T)                           \
  template size_t Arguments::length<T>(size_t);           \
  template T* Arguments::span<T>(size_t, size_t, size_t); \
  template T* Arguments::optional<T>(size_t, size_t);
SIMDNORM_INSTANTIATE(float)
SIMDNORM_INSTANTIATE(double)

}  // namespace simdnorm
