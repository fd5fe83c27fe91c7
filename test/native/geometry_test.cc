// What valid() accepts and refuses, and where statistics lie.
#include "native/core/geometry.h"

#include <stdint.h>

#include "test/native/check.h"

using simdnorm::Geometry;

namespace {

void layers() {
  // batch, outer, groups, inner, run, channels
  const struct {
    const char* layer;
    Geometry g;
    bool columns;
  } rows[] = {
      {"BatchNorm (N, C, S)", {1, 5, 3, 7, 7, 3}, false},
      {"BatchNorm (N, C)", {1, 5, 3, 1, 1, 3}, true},
      {"BatchNorm (1, C)", {1, 1, 3, 1, 1, 3}, true},
      {"InstanceNorm", {5, 1, 3, 7, 7, 3}, false},
      {"InstanceNorm channels-last", {5, 7, 3, 1, 1, 3}, true},
      {"GroupNorm", {5, 1, 2, 21, 7, 6}, false},
      {"GroupNorm channels-last", {5, 7, 2, 3, 1, 6}, true},
      {"GroupNorm (N, C)", {5, 1, 2, 3, 1, 6}, false},
      {"LayerNorm", {5, 1, 1, 7, 1, 7}, false},
      {"LayerNorm over one element", {5, 1, 1, 1, 1, 1}, false},
  };
  for (const auto& row : rows) {
    CHECK(row.g.valid(), "%s", row.layer);
    CHECK(row.g.columns() == row.columns, "%s", row.layer);
  }
}

void refusals() {
  const struct {
    const char* why;
    Geometry g;
  } bad[] = {
      {"run is 0", {1, 5, 3, 7, 0, 3}},
      {"channels is 0", {1, 5, 3, 7, 7, 0}},
      {"run does not divide inner", {1, 5, 3, 7, 2, 3}},
      {"too few channels", {1, 5, 3, 7, 7, 2}},
      {"too many channels", {1, 5, 3, 7, 7, 4}},
      {"no groups", {1, 5, 0, 7, 7, 3}},
      {"no inner", {1, 5, 3, 0, 7, 3}},
  };
  for (const auto& b : bad) CHECK(!b.g.valid(), "%s", b.why);
}

void sizes() {
  const size_t most = size_t(1) << 53;
  CHECK((Geometry{1, 1, 1, most, 1, most}).valid());
  CHECK((Geometry{1, most, 1, 1, 1, 1}).valid());
  CHECK((Geometry{0, 5, 3, 7, 7, 3}).valid(), "an empty batch");
  CHECK((Geometry{5, 0, 3, 7, 7, 3}).elements() == 0);
  // 2^53 is passed by one factor, by a product, and by products that wrap around 2^64 to something small.
  CHECK(!(Geometry{1, 1, 1, most + 1, 1, most + 1}).valid());
  CHECK(!(Geometry{2, most, 1, 1, 1, 1}).valid());
  CHECK(!(Geometry{1, 2, 1, most, 1, most}).valid());
  const size_t half = size_t(1) << 32;
  CHECK(!(Geometry{half, half, 1, 1, 1, 1}).valid());
  CHECK(!(Geometry{1, half, half, 1, 1, half}).valid());
  CHECK(!(Geometry{1, 1, half, half, half, half}).valid());
  CHECK(!(Geometry{half, 1, 1, half, 1, half}).valid());
  CHECK(!(Geometry{SIZE_MAX, SIZE_MAX, 1, 1, 1, 1}).valid());

  size_t out = 7;
  CHECK(Geometry::product(0, SIZE_MAX, &out) && out == 0);
  CHECK(Geometry::product(SIZE_MAX, 0, &out) && out == 0);
  CHECK(Geometry::product(most, 1, &out) && out == most);
  CHECK(Geometry::product(3, 5, &out) && out == 15);
  CHECK(!Geometry::product(most, 2, &out));
  CHECK(!Geometry::product(most + 1, 1, &out));
}

// Every element belongs to one statistic: walking all of them by begin(), outer and inner meets each exactly once.
void every_element_once() {
  const Geometry g = {2, 5, 3, 14, 7, 6};
  CHECK(g.statistics() == 6 && g.count() == 70 && g.stride() == 42 && g.elements() == 420 &&
        g.channels_per_group() == 2);
  int seen[420] = {};
  for (size_t s = 0; s < g.statistics(); s++) {
    for (size_t o = 0; o < g.outer; o++) {
      for (size_t i = 0; i < g.inner; i++) seen[g.begin(s) + o * g.stride() + i]++;
    }
  }
  for (size_t e = 0; e < g.elements(); e++) CHECK(seen[e] == 1, "element %zu: %d times", e, seen[e]);
}

}  // namespace

int main() {
  layers();
  refusals();
  sizes();
  every_element_once();
  return test::finish();
}
