// Merging counts, means and M2: any tree gives the moments of the whole, exactly where doubles allow it. And the
// arithmetic of numbers of twice a double's precision.
#include "native/core/moments.h"

#include <utility>

#include "native/core/twice.h"
#include "native/dispatch/dispatch.h"
#include "test/native/check.h"
#include "test/native/data.h"

using namespace simdnorm;
using test::Exact;
using test::Random;

namespace {

const Moments kEmpty = {0, 0, 0, 0, 0};

bool equal(const Moments& a, const Moments& b) {
  return test::same({a.count, a.mean, a.mean_low, a.m2, a.m2_low}, {b.count, b.mean, b.mean_low, b.m2, b.m2_low});
}

void empty_states() {
  const Moments one = {4, 0.1, 1e-18, 3, -1e-17};
  Moments m = one;
  merge(m, kEmpty);
  CHECK(equal(m, one));
  m = kEmpty;
  merge(m, one);
  CHECK(equal(m, one));
  m = kEmpty;
  merge(m, kEmpty);
  CHECK(equal(m, kEmpty));
  CHECK(equal(Cascade<Moments>().finish(), kEmpty));
}

// Integers around a power of two: their sums are exact in 64 bits, so the moments of the whole are known exactly.
struct Whole {
  double center;
  std::vector<int64_t> around;

  Moments leaf(size_t i) const { return {1, center + static_cast<double>(around[i]), 0, 0, 0}; }
  // Within 2^-50 of the spread and of M2: a merge rounds what it adds, never the mean itself.
  void check(const Moments& m, const char* how) const {
    int64_t sum = 0, squares = 0;
    for (const int64_t v : around) {
      sum += v;
      squares += v * v;
    }
    const long double n = static_cast<long double>(around.size());
    const long double mean = static_cast<long double>(sum) / n;
    const long double m2 = (static_cast<long double>(squares) * n - static_cast<long double>(sum) * sum) / n;
    const long double mean_error = static_cast<long double>(m.mean) - center + m.mean_low - mean;
    const long double m2_error = static_cast<long double>(m.m2) + m.m2_low - m2;
    const long double spread = sqrtl(m2 / n);
    CHECK(m.count == static_cast<double>(around.size()), "%s", how);
    CHECK(fabsl(mean_error) <= 0x1p-50L * spread, "%s of %zu around %g: %Lg", how, around.size(), center, mean_error);
    CHECK(fabsl(m2_error) <= 0x1p-50L * m2, "%s of %zu around %g: %Lg of %Lg", how, around.size(), center, m2_error,
          m2);
  }
};

void any_tree() {
  Random random(1);
  for (const size_t n : {2, 3, 7, 64, 100, 1000}) {
    for (const int k : {0, 10, 20, 40}) {
      Whole whole = {k == 0 ? 0.0 : ldexp(1, k), {}};
      for (size_t i = 0; i < n; i++) whole.around.push_back(static_cast<int64_t>(random.below(2001)) - 1000);

      Moments forwards = kEmpty, backwards = kEmpty;
      for (size_t i = 0; i < n; i++) {
        merge(forwards, whole.leaf(i));
        merge(backwards, whole.leaf(n - 1 - i));
      }
      whole.check(forwards, "forwards");
      whole.check(backwards, "backwards");

      Cascade<Moments> cascade;
      for (size_t i = 0; i < n; i++) cascade.push(whole.leaf(i));
      whole.check(cascade.finish(), "cascade");

      // Any two parts, until one is left; some parts are empty.
      std::vector<Moments> parts(3, kEmpty);
      for (size_t i = 0; i < n; i++) parts.push_back(whole.leaf(i));
      while (parts.size() > 1) {
        std::swap(parts[random.below(parts.size())], parts.back());
        const Moments last = parts.back();
        parts.pop_back();
        merge(parts[random.below(parts.size())], last);
      }
      whole.check(parts[0], "random tree");

      // Ranks that each had some of the data, merged in another order.
      Moments ranks[5] = {kEmpty, kEmpty, kEmpty, kEmpty, kEmpty};
      for (size_t i = 0; i < n; i++) merge(ranks[random.below(5)], whole.leaf(i));
      Moments all = kEmpty;
      for (const size_t rank : {3, 0, 4, 2, 1}) merge(all, ranks[rank]);
      whole.check(all, "shards");
    }
  }
}

// c - 1, c, c + 1 over and over: mean c and M2 2/3 n, with no rounding at all.
void cycles() {
  Random random(2);
  for (const int k : {0, 1, 20, 30, 52}) {
    const double c = ldexp(1, k);
    for (const size_t n : {1, 2, 3, 1000}) {
      const Moments cycle = {3, c, 0, 2, 0};
      const Moments expected = {3.0 * static_cast<double>(n), c, 0, 2.0 * static_cast<double>(n), 0};
      Cascade<Moments> cascade;
      Moments in_order = kEmpty;
      Moments ranks[4] = {kEmpty, kEmpty, kEmpty, kEmpty};
      for (size_t i = 0; i < n; i++) {
        cascade.push(cycle);
        merge(in_order, cycle);
        merge(ranks[random.below(4)], cycle);
      }
      for (size_t r = 1; r < 4; r++) merge(ranks[0], ranks[r]);
      CHECK(equal(cascade.finish(), expected), "%zu around 2^%d", n, k);
      CHECK(equal(in_order, expected), "%zu around 2^%d", n, k);
      CHECK(equal(ranks[0], expected), "%zu around 2^%d", n, k);

      // One value at a time the mean is a third on the way, which no double holds: two of them come as close as 2^-100.
      Moments single = kEmpty;
      for (size_t i = 0; i < n; i++) {
        for (const double v : {c - 1, c, c + 1}) merge(single, {1, v, 0, 0, 0});
      }
      CHECK(single.count == expected.count && single.mean == c, "%zu around 2^%d: %.17g", n, k, single.mean);
      CHECK(fabs(single.mean_low) <= 0x1p-50, "%zu around 2^%d: %g", n, k, single.mean_low);
      CHECK(fabs(single.m2 - expected.m2 + single.m2_low) <= 0x1p-50 * expected.m2, "%zu around 2^%d", n, k);
    }
  }
}

// The cascade is the tree of pairs at distance 1, 2, 4, ...
void cascade_is_pairwise() {
  Random random(3);
  for (size_t n = 1; n <= 130; n++) {
    Cascade<Moments> cascade;
    std::vector<Moments> parts;
    for (size_t i = 0; i < n; i++) {
      parts.push_back({static_cast<double>(1 + random.below(50)), random.normal(), random.normal() * 0x1p-54,
                       random.uniform() * 40, random.normal() * 0x1p-54});
      cascade.push(parts.back());
    }
    for (size_t step = 1; step < n; step *= 2) {
      for (size_t i = 0; i + step < n; i += 2 * step) merge(parts[i], parts[i + step]);
    }
    CHECK(equal(cascade.finish(), parts[0]), "%zu parts", n);
  }
}

// A kernel merges columns as merge() does, bit for bit.
void kernels_merge_alike() {
  constexpr size_t rows = 21, before = 8, cols = 19;
  Random random(4);
  std::vector<float> x(rows * cols);
  for (float& v : x) v = static_cast<float>(1000 + random.normal());
  for (size_t isa = 0; isa < dispatch::count(); isa++) {
    if (!dispatch::supported(isa)) continue;
    const KernelTable& table = dispatch::table(isa);
    const auto spread = [](std::vector<double>& state) {
      double* s = state.data();
      return Spread<double*>{s, s + cols, s + 2 * cols, s + 3 * cols};
    };
    const auto columns = [&](size_t row, size_t n) {
      std::vector<double> state(4 * cols);
      table.f32.moments_columns(x.data() + row * cols, {n, cols, cols}, About::kMean, spread(state));
      return state;
    };
    const auto at = [](const std::vector<double>& s, size_t j, size_t n) {
      return Moments{static_cast<double>(n), s[j], s[cols + j], s[2 * cols + j], s[3 * cols + j]};
    };
    std::vector<double> first = columns(0, before), second = columns(before, rows - before), both = first;
    table.f32.merge_columns(spread(both), before, spread(second), rows - before, cols);
    for (size_t j = 0; j < cols; j++) {
      Moments merged = at(first, j, before);
      merge(merged, at(second, j, rows - before));
      CHECK(equal(merged, at(both, j, rows)), "%s, column %zu", table.name, j);
    }
  }
}

// ---- Twice ----

Exact exact(Twice t) { return static_cast<Exact>(t.high) + t.low; }

// Within 2^-100 of `scale`, and rounded: the high part is the whole as a double.
bool is(Twice t, Exact value, Exact scale) {
  return t.high + t.low == t.high && test::size(exact(t) - value) <= 0x1p-100 * test::size(scale);
}

// Of 53 random bits, or of few.
double any(Random& random, int exponents) {
  double v = 1 + (random.below(4) ? random.uniform() : static_cast<double>(random.below(8)) / 8);
  if (random.below(2)) v = -v;
  return ldexp(v, static_cast<int>(random.below(static_cast<size_t>(2 * exponents + 1))) - exponents);
}
Twice any_twice(Random& random, int exponents) {
  const double high = any(random, exponents);
  return settled(high, random.below(8) ? high * (random.uniform() - 0.5) * 0x1p-53 : 0);
}

void twice() {
  if (!test::kQuad) return;
  Random random(5);
  for (const int exponents : {0, 3, 60, 200}) {
    for (int i = 0; i < 20000; i++) {
      const double u = any(random, exponents), v = any(random, exponents);
      const Twice p = product(u, v);
      CHECK(exact(p) == static_cast<Exact>(u) * v && p.high == u * v, "%a * %a", u, v);

      const Twice a = any_twice(random, exponents), b = any_twice(random, exponents);
      const Exact x = exact(a), y = exact(b), most = test::size(x) > test::size(y) ? x : y;
      CHECK(is(a + b, x + y, most), "%a + %a, %a + %a", a.high, a.low, b.high, b.low);
      CHECK(is(a - b, x - y, most), "%a + %a, %a + %a", a.high, a.low, b.high, b.low);
      CHECK(is(a * b, x * y, x * y), "%a + %a, %a + %a", a.high, a.low, b.high, b.low);
      CHECK(is(a / b, x / y, x / y), "%a + %a, %a + %a", a.high, a.low, b.high, b.low);
      // What nearly cancels, or does.
      const Twice near = a + Twice{a.high * (random.uniform() - 0.5) * 0x1p-40, 0};
      CHECK(is(a - near, x - exact(near), x), "%a + %a, %a + %a", a.high, a.low, near.high, near.low);
      const Twice zero = a - a, one = a / a;
      CHECK(zero.high == 0 && zero.low == 0 && one.high == 1 && one.low == 0, "%a + %a", a.high, a.low);
    }
  }
  for (const double v : {1e300, -1e-290, 0.1, 3.0}) {
    const Twice a = {v, 0}, same = a * Twice{1, 0}, all = a / Twice{1, 0}, sum = a + Twice{0, 0};
    CHECK(same.high == v && all.high == v && sum.high == v && same.low == 0 && all.low == 0 && sum.low == 0, "%g", v);
  }
}

// An infinity stays one: what was left of it is NaN, and must not spoil it.
void infinite_twice() {
  const Twice infinite = {INFINITY, 0}, one = {1, 0x1p-60}, great = {1e200, 1e180};
  for (const Twice t : {infinite + one, one + infinite, infinite - one, infinite * one, one * infinite, infinite / one,
                        infinite + infinite, great * great, settled(INFINITY, NAN)}) {
    CHECK(t.high == INFINITY && t.low == 0, "%g + %g", t.high, t.low);
  }
  for (const Twice t : {infinite - infinite, infinite * Twice{0, 0}, Twice{0, 0} / Twice{0, 0}}) {
    CHECK(isnan(t.high) && t.low == 0, "%g + %g", t.high, t.low);
  }
}

}  // namespace

int main() {
  empty_states();
  any_tree();
  cycles();
  cascade_is_pairwise();
  kernels_merge_alike();
  twice();
  infinite_twice();
  return test::finish();
}
