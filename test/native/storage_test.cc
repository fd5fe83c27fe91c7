// 16-bit storage: the conversions against those of the compiler, and those of every instruction set against them.
#include "native/core/storage.h"

#include <float.h>
#include <math.h>

#include "native/dispatch/dispatch.h"
#include "test/native/check.h"
#include "test/native/data.h"

using namespace simdnorm;

namespace {

// What a pattern without its sign stands for, the pattern of infinity for the power of two it would be.
double magnitude(uint32_t bits, int mantissa, int bias) {
  const uint32_t exponent = bits >> mantissa, fraction = bits & ((1u << mantissa) - 1);
  const uint32_t hidden = exponent == 0 ? 0 : 1u << mantissa;
  return ldexp(fraction + hidden, static_cast<int>(exponent == 0 ? 1 : exponent) - bias - mantissa);
}

// Every pattern there and back, and every place where rounding turns: half way to the next pattern goes to the even
// one, the floats beside it to their own side.
template <class S>
void conversions(const char* name, int mantissa, int bias) {
  const uint32_t infinity = static_cast<uint32_t>(2 * bias + 1) << mantissa;
  bool values = true, back = true, nearest = true;
  for (uint32_t bits = 0; bits < 65536; bits++) {
    const S s = {static_cast<uint16_t>(bits)};
    const uint32_t size = bits & 0x7fff, sign = bits & 0x8000;
    const float v = value_of(s);
    values = values && (signbit(v) != 0) == (sign != 0);
    if (size > infinity) {
      values = values && isnan(v);
      back = back && isnan(value_of(stored<S>(v)));
      continue;
    }
    values = values && fabs(static_cast<double>(v)) == (size == infinity ? INFINITY : magnitude(size, mantissa, bias));
    back = back && stored<S>(v).bits == bits;
    if (size == infinity) continue;
    const double between = (magnitude(size, mantissa, bias) + magnitude(size + 1, mantissa, bias)) / 2;
    const float half = static_cast<float>(sign ? -between : between);
    nearest = nearest && stored<S>(half).bits == bits + (bits & 1) && stored<S>(nextafterf(half, 0)).bits == bits &&
              stored<S>(nextafterf(half, sign ? -INFINITY : INFINITY)).bits == bits + 1;
  }
  CHECK(values, "%s", name);
  CHECK(back, "%s", name);
  CHECK(nearest, "%s", name);
  CHECK(stored<S>(FLT_MAX).bits == infinity && stored<S>(-INFINITY).bits == (infinity | 0x8000), "%s", name);
}

// Through a kernel that multiplies: what is loaded and what is stored.
template <class S>
void on_every_isa(const char* name) {
  std::vector<S> x(65536), y(65536);
  for (uint32_t bits = 0; bits < 65536; bits++) x[bits].bits = static_cast<uint16_t>(bits);
  for (size_t isa = 0; isa < dispatch::count(); isa++) {
    if (!dispatch::supported(isa)) continue;
    for (const float scale : {1.0f, 1.0009765f, 0.99993896f, 0.333333f, 1e-3f, 7e-6f, 3e4f, -1.5f}) {
      const Affine<float> f = {0, scale, 0};
      dispatch::table(isa).of(S()).apply_runs(y.data(), x.data(), x.size(), 1, &f, {nullptr, false}, Stores::kCached,
                                              0);
      bool right = true;
      for (size_t i = 0; i < x.size(); i++) {
        const S expected = stored<S>(value_of(x[i]) * scale + 0.0f);
        right = right && (y[i].bits == expected.bits || (isnan(value_of(y[i])) && isnan(value_of(expected))));
      }
      CHECK(right, "%s on %s times %g", name, dispatch::table(isa).name, static_cast<double>(scale));
    }
  }
}

}  // namespace

int main() {
  conversions<Float16>("float16", 10, 15);
  conversions<BFloat16>("bfloat16", 7, 127);
  on_every_isa<Float16>("float16");
  on_every_isa<BFloat16>("bfloat16");
  return test::finish();
}
