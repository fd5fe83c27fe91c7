#include "native/bindings/arguments.h"

#include <string.h>

#include <memory>
#include <new>

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

Arguments::View Arguments::view_of(napi_value value) {
  // A type that no call accepts: Node without Float16Array support leaves that of one unset, without an error.
  View v = {false, napi_biguint64_array, 0, nullptr};
  v.is_array = napi_get_typedarray_info(env_, value, &v.type, &v.length, &v.data, nullptr, nullptr) == napi_ok;
  return v;
}

const Arguments::View& Arguments::view(size_t argument) {
  View& v = views_[argument];
  if (asked_ >> argument & 1) return v;
  asked_ |= size_t(1) << argument;
  return v = view_of(values_[argument]);
}

template <>
napi_typedarray_type Arguments::type_of<float>() {
  return napi_float32_array;
}
template <>
napi_typedarray_type Arguments::type_of<double>() {
  return napi_float64_array;
}
template <>
napi_typedarray_type Arguments::type_of<uint8_t>() {
  return napi_uint8_array;
}
template <>
napi_typedarray_type Arguments::type_of<int8_t>() {
  return napi_int8_array;
}
template <>
napi_typedarray_type Arguments::type_of<int16_t>() {
  return napi_int16_array;
}
template <>
napi_typedarray_type Arguments::type_of<int32_t>() {
  return napi_int32_array;
}
template <>
napi_typedarray_type Arguments::type_of<Float16>() {
  return napi_uint16_array;
}
template <>
napi_typedarray_type Arguments::type_of<BFloat16>() {
  return napi_uint16_array;
}

napi_typedarray_type Arguments::element_type(size_t argument) {
  const View& v = view(argument);
  if (!v.is_array) fail(Fault::kType, argument);
  return v.type;
}

bool Arguments::block(size_t numbers) {
  const View& v = view(0);
  if (!v.is_array) {
    fail(Fault::kType, 0);
  } else if (v.type != type_of<double>()) {
    fail(Fault::kDtype, 0);
  } else if (v.length < numbers) {
    fail(Fault::kLength, 0);
  } else {
    memcpy(numbers_, v.data, numbers * sizeof(double));
  }
  return ok();
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
T* Arguments::checked(const View& v, size_t argument, size_t length, size_t offset) {
  if (!v.is_array) {
    fail(Fault::kType, argument);
  } else if (v.type != type_of<T>()) {
    fail(Fault::kDtype, argument);
  } else if (offset > v.length || length > v.length - offset) {
    fail(Fault::kLength, argument);
  } else if (length > 0) {
    return static_cast<T*>(v.data) + offset;
  }
  return nullptr;
}

template <class T>
T* Arguments::span(size_t argument, size_t length, size_t offset) {
  if (!ok()) return nullptr;
  T* const data = checked<T>(view(argument), argument, length, offset);
  if (data) {
    spans_[span_count_++] = {reinterpret_cast<const char*>(data), reinterpret_cast<const char*>(data + length),
                             argument};
  }
  return data;
}

template <class T>
T* Arguments::optional(size_t argument, size_t length) {
  if (!ok() || !given(argument)) return nullptr;
  const View& v = view(argument);
  if (v.is_array && v.type == type_of<T>() && v.length != length) {
    fail(Fault::kLength, argument);
    return nullptr;
  }
  return span<T>(argument, length);
}

size_t Arguments::list_length(size_t argument) {
  uint32_t length = 0;
  if (napi_get_array_length(env_, values_[argument], &length) != napi_ok) fail(Fault::kType, argument);
  return length;
}

template <class T>
bool Arguments::list(size_t argument, size_t count, size_t length, T** spans) {
  const std::unique_ptr<napi_value[]> values(new (std::nothrow) napi_value[count]);
  if (!values) fail(Fault::kMemory, 0);
  for (size_t i = 0; i < count && ok(); i++) {
    if (napi_get_element(env_, values_[argument], static_cast<uint32_t>(i), &values[i]) == napi_ok) continue;
    napi_value thrown;
    napi_get_and_clear_last_exception(env_, &thrown);
    fail(Fault::kType, argument);
  }
  asked_ = 0;  // what was known of the other arguments may be so no more
  for (size_t i = 0; i < count && ok(); i++) {
    spans[i] = checked<T>(view_of(values[i]), argument, length, 0);
  }
  return ok();
}

bool Arguments::check_overlaps(bool (*same)(size_t output, size_t other)) {
  for (size_t i = 0; i < span_count_ && ok(); i++) {
    const Span& a = spans_[i];
    if (!(outputs_ >> a.argument & 1)) continue;
    for (size_t j = 0; j < span_count_; j++) {
      const Span& b = spans_[j];
      if (j == i || a.end <= b.begin || b.end <= a.begin) continue;
      if (a.begin == b.begin && a.end == b.end && same(a.argument, b.argument)) continue;
      fail(Fault::kOverlap, a.argument);
      break;
    }
  }
  return ok();
}

template size_t Arguments::length<double>(size_t);
template uint8_t* Arguments::span<uint8_t>(size_t, size_t, size_t);
template int8_t* Arguments::span<int8_t>(size_t, size_t, size_t);
template int16_t* Arguments::span<int16_t>(size_t, size_t, size_t);
template int32_t* Arguments::span<int32_t>(size_t, size_t, size_t);
template bool Arguments::list<uint8_t>(size_t, size_t, size_t, uint8_t**);
#define SIMDNORM_INSTANTIATE(T)                           \
  template T* Arguments::span<T>(size_t, size_t, size_t); \
  template T* Arguments::optional<T>(size_t, size_t);
SIMDNORM_INSTANTIATE(float)
SIMDNORM_INSTANTIATE(double)
SIMDNORM_INSTANTIATE(Float16)
SIMDNORM_INSTANTIATE(BFloat16)

}  // namespace simdnorm
