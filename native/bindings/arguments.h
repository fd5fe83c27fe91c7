// From napi values to checked spans. Numbers are read as doubles and tested (napi's own integer conversions wrap and
// truncate silently); lengths and types come from napi alone, never from a property that JavaScript can shadow. No
// call here can run JavaScript, so a pointer stays good until the exported function returns.
//
// A failed check is remembered, the first one only, and returned to JavaScript as a number: kind * 16 + argument.
#ifndef SIMDNORM_BINDINGS_ARGUMENTS_H_
#define SIMDNORM_BINDINGS_ARGUMENTS_H_

#include <napi.h>
#include <stddef.h>

#include "native/core/geometry.h"
#include "native/core/storage.h"

namespace simdnorm {

enum class Fault { kNone = 0, kType = 1, kDtype = 2, kLength = 3, kOverlap = 4, kNumber = 5, kMemory = 6 };

class Arguments {
 public:
  static constexpr size_t kMost = 11;

  Arguments(napi_env env, napi_callback_info info);

  napi_env env() const { return env_; }
  const napi_value* values() const { return values_; }
  bool ok() const { return fault_ == 0; }
  int fault() const { return fault_; }
  int fail(Fault kind, size_t argument);
  // What a typed array holds: Uint16Array for both kinds of 16-bit floats. Fails where it is none.
  napi_typedarray_type element_type(size_t argument);
  bool given(size_t argument);  // neither null nor undefined

  // Numbers of the parameter block, argument 0: a Float64Array, copied out at once.
  double number(size_t i) const { return numbers_[i]; }
  size_t size(size_t i);  // an integer from 0 to 2^53
  Geometry geometry();    // numbers 0 to 5
  bool block(size_t numbers);

  // How many elements an array of T has; fails where it is none.
  template <class T>
  size_t length(size_t argument);
  // `length` elements from `offset` on; fails where there are fewer.
  template <class T>
  T* span(size_t argument, size_t length, size_t offset = 0);
  // The same, all of the array exactly, or null where it is not given.
  template <class T>
  T* optional(size_t argument, size_t length);

  // Outputs may be exactly an input where `same` says so, and touch nothing else.
  enum class Role { kIn, kOut };
  void role(size_t argument, Role r) { spans_[argument].role = r; }
  bool check_overlaps(bool (*same)(size_t output, size_t other));

 private:
  struct Span {
    const char* begin = nullptr;
    const char* end = nullptr;
    Role role = Role::kIn;
  };
  struct View {
    bool asked, is_array;
    napi_typedarray_type type;
    size_t length;
    void* data;
  };
  const View& view(size_t argument);  // asked of napi once
  template <class T>
  static napi_typedarray_type type_of();

  napi_env env_;
  napi_value values_[kMost];
  Span spans_[kMost];
  View views_[kMost] = {};
  double numbers_[24];
  int fault_ = 0;
};

}  // namespace simdnorm

#endif  // SIMDNORM_BINDINGS_ARGUMENTS_H_
