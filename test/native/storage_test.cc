// 16-bit storage: the conversions against those of the compiler, and those of every instruction set against them.
#include "native/core/storage.h"

#include <math.h>

#include "native/dispatch/dispatch.h"
#include "test/native/check.h"
#include "test/native/data.h"

using namespace simdnorm;

namespace {

uint16_t bits_by_compiler(float v) {
  const _Float16 h = static_cast<_Float16>(v);
  uint16_t bits;
  memcpy(&bits, &h, sizeof bits);
  return bits;
}

float value_by_compiler(uint16_t bits) {
  _Float16 h;
  memcpy(&h, &bits, sizeof h);
  return static_cast<float>(h);
}

bool same(float a, float b) { return (isnan(a) && isnan(b)) || (a == b && signbit(a) == signbit(b)); }

void float16() {
  for (uint32_t bits = 0; bits < 65536; bits++) {
    const Float16 h = {static_cast<uint16_t>(bits)};
    CHECK(same(value_of(h), value_by_compiler(h.bits)), "%04x", bits);
    CHECK(
        isnan(value_of(h)) ? isnan(value_of(stored<Float16>(value_of(h)))) : stored<Float16>(value_of(h)).bits == bits,
        "%04x and back", bits);
  }
  // Every exponent and sign, around every place where rounding turns.
  bool all = true;
  for (uint32_t upper = 0; upper < 1u << 19; upper++) {
    for (const uint32_t lower : {0u, 1u, 0xfffu, 0x1000u, 0x1001u, 0x1fffu}) {
      const float v = float_of(upper << 13 | lower);
      if (isnan(v)) continue;
      all = all && stored<Float16>(v).bits == bits_by_compiler(v);
    }
  }
  CHECK(all, "rounded as the compiler rounds");
}

void bfloat16() {
  bool exact = true, nearest = true;
  for (uint32_t bits = 0; bits < 65536; bits++) {
    const BFloat16 b = {static_cast<uint16_t>(bits)};
    const float v = value_of(b);
    if (isnan(v)) {
      exact = exact && isnan(value_of(stored<BFloat16>(v)));
      continue;
    }
    exact = exact && stored<BFloat16>(v).bits == bits;
    if (isinf(v)) continue;
    // The float half way to the next pattern goes to the even one, those beside it to their own side.
    const uint32_t half = bits << 16 | 0x8000;
    nearest = nearest && stored<BFloat16>(float_of(half)).bits == bits + (bits & 1) &&
              stored<BFloat16>(float_of(half - 1)).bits == bits &&
              stored<BFloat16>(float_of(half + 1)).bits == bits + 1;
  }
  CHECK(exact, "and back");
  CHECK(nearest, "ties to even");
}

// Through a kernel that multiplies: what is loaded and what is stored.
template <class S>
void on_every_isa(const char* name) {
  std::vector<S> x(65536), y(65536);
  for (uint32_t bits = 0; bits < 65536; bits++) x[bits].bits = static_cast<uint16_t>(bits);
  for (size_t isa = 0; isa < dispatch::count(); isa++) {
    if (!dispatch::supported(isa)) continue;
    for (const float scale : {1.0f, 1.0009765f, 0.99993896f, 0.333333f, 1e-3f, 7e-6f, 3e4f, -1.5f}) {
      dispatch::table(isa).of(S()).apply(y.data(), x.data(), x.size(), {0, scale, 0}, {nullptr, false});
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
  float16();
  bfloat16();
  on_every_isa<Float16>("float16");
  on_every_isa<BFloat16>("bfloat16");
  return test::finish();
}
