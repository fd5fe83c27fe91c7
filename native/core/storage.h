// What the elements of a tensor are stored as, and what they are computed with: 16-bit floats are storage only, all
// arithmetic on them is in float. Rounded to nearest, ties to even, as the conversion instructions of x86 and ARM do.
//
// Shared with ISA code, so everything has internal linkage (see moments.h).
#ifndef SIMDNORM_CORE_STORAGE_H_
#define SIMDNORM_CORE_STORAGE_H_

#include <stdint.h>

namespace simdnorm {

struct Float16 {  // IEEE binary16
  uint16_t bits;
};
struct BFloat16 {  // the upper half of a float
  uint16_t bits;
};

template <class S>
struct Storage {
  using Value = S;
};
template <>
struct Storage<Float16> {
  using Value = float;
};
template <>
struct Storage<BFloat16> {
  using Value = float;
};
// Integers are read only; up to 24 bits a float holds them.
template <>
struct Storage<uint8_t> {
  using Value = float;
};
template <>
struct Storage<int8_t> {
  using Value = float;
};
template <>
struct Storage<int16_t> {
  using Value = float;
};
template <>
struct Storage<int32_t> {
  using Value = double;
};
// The type that elements stored as S are computed with.
template <class S>
using Value = typename Storage<S>::Value;

namespace {

inline uint32_t bits_of(float v) {
  uint32_t bits;
  __builtin_memcpy(&bits, &v, sizeof bits);
  return bits;
}
inline float float_of(uint32_t bits) {
  float v;
  __builtin_memcpy(&v, &bits, sizeof v);
  return v;
}

inline float value_of(float v) { return v; }
inline double value_of(double v) { return v; }
inline float value_of(uint8_t v) { return v; }
inline float value_of(int8_t v) { return v; }
inline float value_of(int16_t v) { return v; }
inline double value_of(int32_t v) { return v; }
inline float value_of(BFloat16 v) { return float_of(static_cast<uint32_t>(v.bits) << 16); }
inline float value_of(Float16 v) {
  const uint32_t sign = static_cast<uint32_t>(v.bits & 0x8000) << 16;
  const uint32_t rest = static_cast<uint32_t>(v.bits & 0x7fff) << 13;
  // An exponent 112 too low, subnormals included, is put right by an exact multiplication.
  const uint32_t finite = bits_of(float_of(rest) * 0x1p112f);
  return float_of(sign | (rest >= 0x7c00u << 13 ? rest | 0x7f800000 : finite));
}

template <class S>
inline double wide(S v) {
  return static_cast<double>(value_of(v));
}

template <class S>
struct Rounded;
template <>
struct Rounded<float> {
  static float of(float v) { return v; }
};
template <>
struct Rounded<double> {
  static double of(double v) { return v; }
};
template <>
struct Rounded<BFloat16> {
  static BFloat16 of(float v) {
    const uint32_t bits = bits_of(v);
    const bool nan = (bits & 0x7fffffff) > 0x7f800000;
    return {static_cast<uint16_t>(nan ? (bits >> 16) | 0x40 : (bits + 0x7fff + (bits >> 16 & 1)) >> 16)};
  }
};
template <>
struct Rounded<Float16> {
  static Float16 of(float v) {
    const uint32_t sign = bits_of(v) >> 16 & 0x8000, size = bits_of(v) & 0x7fffffff;
    uint32_t rest;
    if (size > 0x7f800000) {
      rest = 0x7e00;
    } else if (size >= 0x47800000) {  // 2^16
      rest = 0x7c00;
    } else if (size >= 0x38800000) {  // 2^-14; a carry past 65519 gives infinity
      rest = (size - 0x38000000 + 0xfff + (size >> 13 & 1)) >> 13;
    } else {  // subnormal: multiples of 2^-24, the last place of 1/2
      rest = bits_of(float_of(size) + 0.5f) - bits_of(0.5f);
    }
    return {static_cast<uint16_t>(sign | rest)};
  }
};
// As an element of type S.
template <class S>
inline S stored(Value<S> v) {
  return Rounded<S>::of(v);
}

}  // namespace
}  // namespace simdnorm

#endif  // SIMDNORM_CORE_STORAGE_H_
