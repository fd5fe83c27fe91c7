// From napi values to checked spans. Numbers are read as doubles and tested (napi's own integer conversions wrap and
// truncate silently); lengths and types come from napi alone, never from a property that JavaScript can shadow. No
// call here can run JavaScript, so a pointer stays good until the exported function returns.
//
// Asking napi is most of what a small call costs: 26 ns for an array, and 15 to find that an argument is none. So the
// block says which arguments there are, and each is asked about once.
//
// A failed check is remembered, the first one only, and returned to JavaScript as a number: kind * 16 + argument.
#ifndef SIMDNORM_BINDINGS_ARGUMENTS_H_
#define SIMDNORM_BINDINGS_ARGUMENTS_H_

#include <napi.h>
#include <stddef.h>
#include <stdint.h>

#include "native/core/geometry.h"
#include "native/core/storage.h"

namespace simdnorm {

enum class Fault { kNone = 0, kType = 1, kDtype = 2, kLength = 3, kOverlap = 4, kNumber = 5, kMemory = 6 };

class Arguments {
 public:
  static constexpr size_t kMost = 12;

  Arguments(napi_env env, napi_callback_info info);

  napi_env env() const { return env_; }
  const napi_value* values() const { return values_; }
  bool ok() const { return fault_ == 0; }
  int fault() const { return fault_; }
  int fail(Fault kind, size_t argument);
  // What a typed array holds: Uint16Array for both kinds of 16-bit floats. Fails where it is none.
  napi_typedarray_type element_type(size_t argument);

  // Numbers of the parameter block, argument 0: a Float64Array, copied out at once.
  double number(size_t i) const { return numbers_[i]; }
  // An integer from 0 to 2^53, or as much of that as a size_t holds.
  size_t size(size_t i) {
    const double n = numbers_[i];
    constexpr double kLimit = sizeof(size_t) == 8 ? 9007199254740992.0 : 4294967295.0;
    if (n >= 0 && n <= kLimit) {
      // Signed: one instruction there and one back.
      const auto whole = static_cast<int64_t>(n);
      if (static_cast<double>(whole) == n) return static_cast<size_t>(whole);
    }
    fail(Fault::kNumber, 0);
    return 0;
  }
  // Numbers 0 to 5.
  Geometry geometry() {
    const Geometry g = {size(0), size(1), size(2), size(3), size(4), size(5)};
    if (ok() && !g.valid()) fail(Fault::kNumber, 0);
    return g;
  }
  bool block(size_t numbers);

  // Which optional arguments there are: the sum of 2^argument over them.
  void give(size_t arguments) { given_ = arguments; }
  bool given(size_t argument) const { return (given_ >> argument & 1) != 0; }

  // How many elements an array of T has; fails where it is none.
  template <class T>
  size_t length(size_t argument);
  // `length` elements from `offset` on; fails where there are fewer.
  template <class T>
  T* span(size_t argument, size_t length, size_t offset = 0);
  // The same, all of the array exactly, or null where it is not given.
  template <class T>
  T* optional(size_t argument, size_t length);

  // How many elements a list has, a JavaScript array; fails where it is none.
  size_t list_length(size_t argument);
  // The first `length` elements of each of a list's `count` typed arrays. To read a list can run JavaScript, which can
  // take memory away: no span comes before it. Their overlaps are the caller's to check.
  template <class T>
  bool list(size_t argument, size_t count, size_t length, T** spans);

  // Outputs may be exactly an input where `same` says so, and touch nothing else.
  void output(size_t argument) { outputs_ |= size_t(1) << argument; }
  bool check_overlaps(bool (*same)(size_t output, size_t other));

 private:
  struct Span {
    const char *begin, *end;
    size_t argument;
  };
  struct View {
    bool is_array;
    napi_typedarray_type type;
    size_t length;
    void* data;
  };
  View view_of(napi_value value);
  const View& view(size_t argument);
  // Fails for another type, or where there are fewer than `length` elements from `offset` on.
  template <class T>
  T* checked(const View& v, size_t argument, size_t length, size_t offset);
  template <class T>
  static napi_typedarray_type type_of();

  napi_env env_;
  int fault_ = 0;
  // Bits by argument. Of the arrays below only what has been filled is ever read: to clear them costs 20 ns.
  size_t asked_ = 0, given_ = 0, outputs_ = 0;
  size_t span_count_ = 0;
  napi_value values_[kMost];
  Span spans_[kMost];
  View views_[kMost];
  double numbers_[24];
};

}  // namespace simdnorm

#endif  // SIMDNORM_BINDINGS_ARGUMENTS_H_
