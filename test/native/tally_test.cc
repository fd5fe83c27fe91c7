// Statistics of data sets, for every instruction set, stored type and form: near sums of 113 bits, the same bits
// everywhere and for every number of threads, no matter what the neighbours are, and nothing read beyond the data.
//
//   tally_test --digest    one hash for each instruction set over all states, to compare machines by
#include "native/ops/tally.h"

#include <algorithm>
#include <type_traits>

#include "native/dispatch/dispatch.h"
#include "native/parallel/thread_pool.h"
#include "test/native/check.h"
#include "test/native/data.h"
#include "test/native/float_mode.h"

using namespace simdnorm;
using test::Exact;
using test::Guarded;
using test::Random;
using test::Values;

namespace {

using States = std::vector<Tally>;  // of each channel
using Weights = std::vector<double>;

const Tally kEmpty = {{0, 0}, {0, 0}, {0, 0}, INFINITY, -INFINITY, 0};

// ---- data: each channel is hard in another way ----

enum class Hard {
  kOrdinary,
  kFar,
  kConstant,
  kZeros,
  kOutlier,  // where the first guess of a mean is taken from
  kBig,
  kMixed,
  kTiny,
  kSomeNan,
  kAllNan,
  kInfinite,
  kInfinities,
  kCount
};
constexpr const char* kHardNames[] = {"ordinary", "far",  "constant", "zeros",   "outlier",  "big",
                                      "mixed",    "tiny", "some NaN", "all NaN", "infinite", "infinities"};
Hard hard(size_t i) { return static_cast<Hard>(i % static_cast<size_t>(Hard::kCount)); }
bool finite(Hard h) { return h < Hard::kSomeNan; }

// A number far from zero and the noise about it; a great one, and a small one.
struct Range {
  double far, noise, big, tiny;
};
Range range(float) { return {1e6, 1, 1e30, 1e-42}; }
Range range(double) { return {1e9, 1e-3, 1e150, 1e-120}; }
Range range(Float16) { return {1000, 2, 20000, 1e-6}; }
Range range(BFloat16) { return {300, 4, 1e30, 1e-39}; }
Range range(uint8_t) { return {250, 2, 255, 1}; }
Range range(int8_t) { return {-120, 3, 127, 1}; }
Range range(int16_t) { return {32000, 300, 32767, 1}; }
Range range(int32_t) { return {2147483000, 1000, 2147483647, 1}; }

// The nearest element; NaN and infinities are 1 among integers.
template <class S>
S element(double v) {
  if constexpr (std::is_integral<S>::value) {
    if (!isfinite(v)) return 1;
    const double least = std::numeric_limits<S>::min(), most = std::numeric_limits<S>::max();
    return static_cast<S>(fmin(fmax(floor(v + 0.5), least), most));
  } else {
    return stored<S>(static_cast<Value<S>>(v));
  }
}

template <class S>
S make(Hard h, size_t i, size_t n, Random& random) {
  const Range r = range(S());
  const double normal = random.normal();
  switch (h) {
    case Hard::kFar:
      return element<S>(r.far + r.noise * normal);
    case Hard::kConstant:
      return element<S>(77.7);
    case Hard::kZeros:
      return element<S>(random.below(2) ? -0.0 : 0.0);
    case Hard::kOutlier:
      return element<S>(i == 0 ? r.big * 1e-5 + r.far : 5 * normal);
    case Hard::kBig:
      return element<S>(r.big * normal);
    case Hard::kMixed:
      return element<S>(ldexp(normal, static_cast<int>(random.below(31)) - 15));
    case Hard::kTiny:
      return element<S>(r.tiny * normal);
    case Hard::kSomeNan:
      return element<S>(i == 0 || random.below(8) == 0 ? NAN : 5 * normal);
    case Hard::kAllNan:
      return element<S>(NAN);
    case Hard::kInfinite:
      return element<S>(i == n / 2 ? -INFINITY : 5 * normal);
    case Hard::kInfinities:
      return element<S>(i == n / 3 || i == n / 2 ? (i == n / 2 ? INFINITY : -INFINITY) : 5 * normal);
    default:
      return element<S>(5 * normal);
  }
}

// ---- forms ----

// The first `channels` of `all` channels are read.
struct Form {
  size_t outer, channels, inner, all, first;  // channel c is hard(first + c)

  size_t positions() const { return outer * inner; }
  size_t length() const { return (outer - 1) * all * inner + channels * inner; }
  size_t at(size_t c, size_t position) const { return (position / inner * all + c) * inner + position % inner; }
  Samples samples() const { return {outer, channels, inner, all * inner}; }
  Hard of(size_t c) const { return hard(first + c); }
  Form part(size_t n) const { return {n, channels, inner, all, first}; }  // of n outer
};

std::vector<Form> forms() {
  std::vector<Form> out;
  const auto add = [&](size_t outer, size_t channels, size_t inner, size_t all) {
    out.push_back({outer, channels, inner, all, 5 * out.size()});
  };
  for (const size_t cols : {1, 3, 4, 5, 15, 16, 17, 63, 64, 65, 257, 600}) {
    for (const size_t rows : {1, 7, 8, 9, 100}) {
      add(rows, cols, 1, cols);
      add(rows, cols, 1, cols + 3);
    }
  }
  // Rows about the bounds of units, which are of 2048 to 8192 vectors where several rows are read as one.
  for (const size_t rows : {2047, 2048, 2049, 8192, 8193, 20000}) {
    add(rows, 3, 1, 3);
    add(rows, 4, 1, 4);
    add(rows, 16, 1, 16);
  }
  for (const size_t rows : {16383, 16384, 16385, 16393}) add(rows, 1, 1, 2);
  for (const size_t rows : {8191, 8195, 8197}) add(rows, 3, 1, 4);
  add(32769, 3, 1, 3);
  add(33000, 5, 1, 5);
  add(40000, 2, 1, 16);
  add(140000, 1, 1, 4);
  add(2049, 65, 1, 65);
  add(4100, 17, 1, 70);
  add(2049, 257, 1, 259);
  for (const size_t inner : {2, 15, 16, 17, 49, 64, 65}) {
    add(1, 1, inner, 1);
    add(1, 3, inner, 3);
    add(33, 4, inner, 4);
    add(33, 4, inner, 6);
    add(300, 2, inner, 2);
  }
  add(2, 3, 5000, 3);
  add(3, 2, 5000, 3);
  add(1, 2, 70000, 2);
  add(2, 1, 70000, 2);
  add(2, 1, 70001, 1);
  add(4097, 2, 17, 2);
  for (const size_t n : {1, 100, 8193, 100003}) add(n, 1, 1, 1);
  return out;
}

struct Label {
  char text[100];
  Label(const char* type, const Form& f) {
    snprintf(text, sizeof text, "%s [%zu][%zu of %zu][%zu]", type, f.outer, f.channels, f.all, f.inner);
  }
};

// Every channel starts anew, so that what it holds does not depend on the others.
template <class S>
void fill(const Guarded<S>& x, const Form& f, bool only_finite = false) {
  for (size_t c = 0; c < f.all; c++) {
    Random random(f.first + c);
    const Hard h = only_finite && !finite(f.of(c)) ? Hard::kOrdinary : f.of(c);
    for (size_t i = 0; i < f.positions(); i++) {
      const size_t at = f.at(c, i);
      if (at < x.size()) x[at] = make<S>(h, i, f.positions(), random);
    }
  }
}

// Zeros, one, parts and thousands.
Weights weights(size_t n) {
  Random random(n);
  Weights w(n);
  for (double& v : w) v = random.below(4) == 0 ? 0 : random.below(4) == 0 ? 1 + random.below(5000) : random.uniform();
  return w;
}

template <class S>
States run(const Tallies<S>& k, const Form& f, const S* x, const double* w = nullptr) {
  States states(f.channels, kEmpty);
  CHECK(tally(k, f.samples(), x, w, states.data()) == Status::kOk);
  return states;
}
Values values(const Tally& t) {
  return {t.count.high, t.count.low, t.mean.high, t.mean.low, t.m2.high, t.m2.low, t.min, t.max, t.missing};
}
Values values(const States& states) {
  Values all;
  for (const Tally& t : states) {
    for (const double v : values(t)) all.push_back(v);
  }
  return all;
}

Exact exact(Twice t) { return static_cast<Exact>(t.high) + t.low; }
double number(Exact v) { return static_cast<double>(v); }

// ---- against sums of 113 bits ----

// What n values come to, in two passes: x(i) with weight(i).
struct Truth {
  Exact count = 0, mean = 0, m2 = 0;
  double plain = 0, least = INFINITY, most = -INFINITY, missing = 0, spread = 0;

  template <class X, class W>
  Truth(size_t n, X x, W weight) {
    const auto each = [&](auto f) {
      for (size_t i = 0; i < n; i++) {
        if (weight(i) != 0 && !isnan(x(i))) f(x(i), weight(i));
      }
    };
    for (size_t i = 0; i < n; i++) missing += weight(i) != 0 && isnan(x(i));
    each([&](double v, double w) {
      plain += v;
      least = fmin(least, v);
      most = fmax(most, v);
      count += w;
      mean += static_cast<Exact>(w) * (isfinite(v) ? v : 0);
    });
    if (count == 0 || !isfinite(least) || !isfinite(most)) return;
    mean /= count;
    each([&](double v, double w) {
      const Exact d = v - mean;
      m2 += w * d * d;
      spread = fmax(spread, fabs(number(d)));
    });
  }
};

void compare(const Tally& t, const Truth& truth, const char* label, const char* kind) {
  const double unit = 0x1p-52;
  CHECK(test::size(exact(t.count) - truth.count) <= 0x1p-90 * truth.count, "%s %s: %g", label, kind, t.count.high);
  CHECK(t.min == truth.least && t.max == truth.most, "%s %s: %g to %g", label, kind, t.min, t.max);
  CHECK(t.missing == truth.missing, "%s %s: %g", label, kind, t.missing);
  if (truth.count != 0 && !(isfinite(truth.least) && isfinite(truth.most))) {
    CHECK(test::bits(t.mean.high) == test::bits(truth.plain), "%s %s: mean %g", label, kind, t.mean.high);
    CHECK(isnan(t.m2.high), "%s %s: M2 %g", label, kind, t.m2.high);
    return;
  }
  // Both are rounded numbers and what was lost.
  CHECK(t.mean.high + t.mean.low == t.mean.high && t.m2.high + t.m2.low == t.m2.high, "%s %s", label, kind);
  if (!test::kQuad) return;
  const double mean = number(exact(t.mean) - truth.mean), m2 = number(exact(t.m2) - truth.m2);
  const double own = 0x1p-104 * fabs(number(truth.mean));  // of the truth, and of the sum that is its mean
  CHECK(fabs(mean) <= unit * truth.spread + own, "%s %s: mean %.17g, off by %g", label, kind, t.mean.high, mean);
  CHECK(fabs(m2) <= 2 * unit * number(truth.m2) + own * own * t.count.high, "%s %s: M2 %.17g, off by %g", label, kind,
        t.m2.high, m2);
  if (truth.least == truth.most)
    CHECK(t.m2.high == 0 && t.m2.low == 0 && t.mean.high == truth.least, "%s %s", label, kind);
}

template <class S>
void compare(const States& states, const Form& f, const S* x, const double* w, const char* label) {
  for (size_t c = 0; c < f.channels; c++) {
    const auto value = [&](size_t i) { return wide(x[f.at(c, i)]); };
    const auto weight = [&](size_t i) { return w ? w[i] : 1; };
    compare(states[c], Truth(f.positions(), value, weight), label, kHardNames[static_cast<size_t>(f.of(c))]);
  }
}

const size_t kThreads[] = {1, 2, 5};

// f(table) for every instruction set that runs here.
template <class F>
void each_isa(F f) {
  for (size_t isa = 0; isa < dispatch::count(); isa++) {
    if (dispatch::supported(isa)) f(dispatch::table(isa));
  }
}
const KernelTable& portable() { return dispatch::table(dispatch::count() - 1); }

template <class S>
void check_form(const Form& f, const char* type) {
  const Label label(type, f);
  const Guarded<S> x(f.length()), elsewhere(f.length(), 3 * sizeof(S));
  fill(x, f);
  fill(elsewhere, f);
  const std::vector<S> before(x.get(), x.get() + x.size());
  const Weights w = weights(f.positions());
  const Guarded<double> guarded(w.size());
  memcpy(guarded.get(), w.data(), w.size() * sizeof(double));

  parallel::set_threads(1);
  const States states = run<S>(portable().tally_of(S()), f, x.get());
  const Values expected = values(states);
  compare<S>(states, f, x.get(), nullptr, label.text);
  const bool small = f.length() < 100000;  // weights have no kernels of their own
  const States weighted = run<S>(portable().tally_of(S()), f, x.get(), guarded.get());
  if (small) compare<S>(weighted, f, x.get(), w.data(), label.text);

  each_isa([&](const KernelTable& table) {
    const Tallies<S>& k = table.tally_of(S());
    for (const size_t threads : kThreads) {
      parallel::set_threads(threads);
      CHECK(test::same(values(run<S>(k, f, x.get())), expected), "%s, %s, %zu threads", label.text, table.name,
            threads);
      if (!small && threads == 1) continue;
      CHECK(test::same(values(run<S>(k, f, x.get(), guarded.get())), values(weighted)), "%s weighted, %s, %zu threads",
            label.text, table.name, threads);
    }
    CHECK(test::same(values(run<S>(k, f, elsewhere.get())), expected), "%s, %s, elsewhere", label.text, table.name);
  });
  CHECK(memcmp(x.get(), before.data(), x.size() * sizeof(S)) == 0 && x.intact(), "%s: written to", label.text);
  CHECK(memcmp(guarded.get(), w.data(), w.size() * sizeof(double)) == 0 && guarded.intact(), "%s", label.text);

  // Without the NaNs and infinities the other channels are what they were.
  fill(x, f, true);
  const States alone = run<S>(dispatch::active().tally_of(S()), f, x.get());
  for (size_t c = 0; c < f.channels; c++) {
    if (finite(f.of(c))) CHECK(test::same(values(alone[c]), values(states[c])), "%s: channel %zu", label.text, c);
  }
}

// ---- kernels by themselves ----

// More columns than are read side by side, into memory for exactly as many; and stretches. `sum` tells of NaN and
// infinities.
template <class S>
void kernels(const char* type) {
  const Form forms[] = {{21, 600, 1, 601, 0}, {5, 33, 1, 33, 0}, {3, 1, 77, 2, 0}, {1, 1, 1, 1, 0}, {4, 1, 128, 1, 4}};
  for (const Form& f : forms) {
    const Label label(type, f);
    const Guarded<S> x(f.length());
    fill(x, f);
    Values columns, stretch;
    const auto all = [&](const Tallies<S>& k, Values& down, Values& along) {
      const size_t n = f.channels * f.inner, stride = f.all * f.inner;
      const Guarded<double> a(n), b(n), c(n), d(n), e(n), g(n), h(n);
      k.centers(x.get(), {f.outer, n, stride}, a.get());
      CHECK(a.intact(), "%s", label.text);
      down.insert(down.end(), a.get(), a.get() + n);
      for (size_t j = 0; j < n; j++) a[j] = isfinite(a[j]) ? a[j] : 0;
      for (size_t j = 0; j < n; j += kTallyColumns) {
        const size_t some = n - j < kTallyColumns ? n - j : kTallyColumns;
        k.columns(x.get() + j, {f.outer, some, stride}, a.get() + j,
                  {b.get() + j, c.get() + j, d.get() + j, e.get() + j, g.get() + j, h.get() + j});
      }
      for (const Guarded<double>* out : {&a, &b, &c, &d, &e, &g, &h}) {
        CHECK(out->intact(), "%s", label.text);
        down.insert(down.end(), out->get(), out->get() + n);
      }
      const double center = k.center(x.get(), stride, f.outer, n);
      const Deviations<double> s = k.run(x.get(), stride, f.outer, n, isfinite(center) ? center : 0, 0);
      along = {center, s.sum, s.sum_low, s.squares, s.squares_low, s.min, s.max};
      for (size_t j = 0; j < n; j++) {
        bool is_finite = true;
        for (size_t i = 0; i < f.outer; i++) is_finite = is_finite && isfinite(wide(x[i * stride + j]));
        CHECK(is_finite == static_cast<bool>(isfinite(b[j])), "%s: column %zu has a sum of %g", label.text, j, b[j]);
      }
    };
    all(portable().tally_of(S()), columns, stretch);
    each_isa([&](const KernelTable& table) {
      Values down, along;
      all(table.tally_of(S()), down, along);
      CHECK(test::same(down, columns), "%s columns, %s", label.text, table.name);
      CHECK(test::same(along, stretch), "%s stretch, %s", label.text, table.name);
    });
  }
}

// ---- pieces ----

double ulps(double a, double b) { return a == b ? 0 : fabs(a - b) / (0x1p-52 * fmax(fabs(a), fabs(b))); }
// Of finite data within 4 places; exactly, where no sum had to be rounded.
void same_data(const Tally& a, const Tally& b, const char* label, const char* kind, double places) {
  CHECK(test::same({a.count.high, a.min, a.max, a.missing}, {b.count.high, b.min, b.max, b.missing}), "%s %s", label,
        kind);
  if (!isfinite(b.mean.high) || !isfinite(b.m2.high)) {
    CHECK(test::same({a.mean.high, a.m2.high}, {b.mean.high, b.m2.high}), "%s %s", label, kind);
    return;
  }
  const double spread = b.count.high > 0 ? sqrt(b.m2.high / b.count.high) : 0;
  const double mean = fabs(number(exact(a.mean) - exact(b.mean)));
  CHECK(ulps(a.mean.high, b.mean.high) <= places || mean <= 0x1p-51 * spread, "%s %s: mean %.17g, not %.17g", label,
        kind, a.mean.high, b.mean.high);
  CHECK(ulps(a.m2.high, b.m2.high) <= places, "%s %s: M2 %.17g, not %.17g", label, kind, a.m2.high, b.m2.high);
}

// Rows cut anywhere, added to one state after the other, or to states of their own that are merged in any order.
template <class S>
void pieces(const char* type) {
  Random random(9);
  const Form forms[] = {
      {500, 24, 1, 24, 0}, {5000, 3, 1, 3, 0}, {5000, 3, 1, 3, 3}, {700, 24, 5, 25, 0}, {10000, 1, 1, 1, 4}};
  for (const Form& f : forms) {
    const Label label(type, f);
    const Guarded<S> x(f.length());
    fill(x, f);
    const Tallies<S>& k = dispatch::active().tally_of(S());
    const States whole = run<S>(k, f, x.get());
    for (int round = 0; round < 4; round++) {
      std::vector<States> parts(1, States(f.channels, kEmpty));
      States onward(f.channels, kEmpty);
      for (size_t row = 0; row < f.outer;) {
        const Form part = f.part(std::min(f.outer - row, 1 + random.below(round % 2 ? 20 : f.outer / 2)));
        const S* const from = x.get() + row * f.all * f.inner;
        parts.push_back(run<S>(k, part, from));
        tally(k, part.samples(), from, nullptr, onward.data());
        row += part.outer;
      }
      while (parts.size() > 1) {
        std::swap(parts[random.below(parts.size())], parts.back());
        const States last = parts.back();
        parts.pop_back();
        States& into = parts[random.below(parts.size())];
        for (size_t c = 0; c < f.channels; c++) merge(into[c], last[c]);
      }
      for (size_t c = 0; c < f.channels; c++) {
        const char* const kind = kHardNames[static_cast<size_t>(f.of(c))];
        same_data(parts[0][c], whole[c], label.text, kind, 4);
        same_data(onward[c], whole[c], label.text, kind, 4);
      }
    }
  }
}

void merging() {
  const Tally one = {{4, 0}, {0.1, 1e-18}, {3, -1e-17}, -1, 2, 5};
  Tally missing = kEmpty;
  missing.missing = 2;
  Tally t = one;
  merge(t, kEmpty);
  CHECK(test::same(values(t), values(one)), "with nothing");
  t = kEmpty;
  merge(t, one);
  CHECK(test::same(values(t), values(one)), "into nothing");
  merge(t, missing);
  CHECK(t.missing == 7 && t.count.high == 4 && t.min == -1, "with nothing but NaNs");
  t = missing;
  merge(t, one);
  CHECK(t.missing == 7 && t.count.high == 4 && t.min == -1, "into nothing but NaNs");
  t = kEmpty;
  merge(t, kEmpty);
  CHECK(test::same(values(t), values(kEmpty)), "nothing with nothing");

  t = one;
  merge(t, t);
  Tally copy = one;
  merge(copy, one);
  CHECK(test::same(values(t), values(copy)), "with itself as with a copy");
  CHECK(test::same(values(t), {8, 0, 0.1, 1e-18, 6, -2e-17, -1, 2, 10}), "%.17g", t.m2.high);

  // 2^40 samples, and that many again about another mean.
  const Form f = {1 << 10, 1, 1, 1, 0};
  const Guarded<double> x(f.length());
  fill(x, f);
  Tally great = run<double>(dispatch::active().tally_f64, f, x.get())[0];
  const Tally small = great;
  for (int i = 0; i < 30; i++) merge(great, great);
  CHECK(great.count.high == 0x1p40 && great.count.low == 0);
  CHECK(test::same({great.mean.high, great.mean.low}, {small.mean.high, small.mean.low}), "%.17g", great.mean.high);
  CHECK(test::same({great.m2.high, great.m2.low}, {small.m2.high * 0x1p30, small.m2.low * 0x1p30}));
  Tally away = great;
  away.mean = away.mean + Twice{1, 0};
  merge(away, great);
  const Exact m2 = 2 * exact(great.m2) + 0x1p39;
  CHECK(away.count.high == 0x1p41 && ulps(away.m2.high, number(m2)) <= 1, "%.17g", away.m2.high);
  // One sample more is not lost.
  merge(great, {{1, 0}, {1e6, 0}, {0, 0}, 1e6, 1e6, 0});
  const Exact mean = (exact(small.mean) * 0x1p40 + 1e6) / (0x1p40 + 1);
  CHECK(great.count.high == 0x1p40 + 1 && great.max == 1e6);
  CHECK(fabs(number(exact(great.mean) - mean)) <= 0x1p-100 * 1e6, "%g", number(exact(great.mean) - mean));
}

// Where all sums of pieces are exact, rounded once: no cut can be seen. The data drift, so that most of M2 is in what
// lies between the means of pieces.
template <class S>
void no_cut_shows(const char* type) {
  const size_t n = 40000;
  Random random(11);
  const Guarded<S> x(n);
  for (size_t i = 0; i < n; i++)
    x[i] = element<S>(50 + floor(static_cast<double>(i) / 270) + floor(10 * random.normal()));
  const Tallies<S>& k = dispatch::active().tally_of(S());
  const Tally whole = run<S>(k, {n, 1, 1, 1, 0}, x.get())[0];
  const Truth truth(
      n, [&](size_t i) { return wide(x[i]); }, [](size_t) { return 1; });
  CHECK(!test::kQuad || (whole.mean.high == number(truth.mean) && whole.m2.high == number(truth.m2)), "%s", type);
  for (int round = 0; round < 20; round++) {
    Tally t = kEmpty;
    for (size_t i = 0; i < n;) {
      const size_t part = std::min(n - i, 1 + random.below(round % 2 ? 300 : 20000));
      tally(k, {part, 1, 1, 1}, x.get() + i, nullptr, &t);
      i += part;
    }
    CHECK(test::same({t.count.high, t.mean.high, t.m2.high}, {n, whole.mean.high, whole.m2.high}),
          "%s: %.17g, not %.17g", type, t.m2.high, whole.m2.high);
  }
}

// ---- weights ----

void weighted() {
  const Form forms[] = {{50, 7, 1, 9, 0}, {50, 1, 1, 1, 0}, {9, 2, 30, 2, 0}};
  for (const Form& f : forms) {
    const Label label("weighted", f);
    const Tallies<float>& k = dispatch::active().tally_f32;
    const Guarded<float> x(f.length());
    fill(x, f);
    const size_t n = f.positions();
    States states = run<float>(k, f, x.get(), Weights(n, 0).data());
    for (const Tally& t : states) CHECK(test::same(values(t), values(kEmpty)), "%s: none", label.text);
    // Adding nothing keeps what there was.
    const States whole = run<float>(k, f, x.get());
    states = whole;
    tally(k, f.samples(), x.get(), Weights(n, 0).data(), states.data());
    tally(k, {0, f.channels, f.inner, f.all * f.inner}, x.get(), nullptr, states.data());
    CHECK(test::same(values(states), values(whole)), "%s", label.text);
    // Ones are no weights; 2^k of each are M2 times that.
    states = run<float>(k, f, x.get(), Weights(n, 1).data());
    const States great = run<float>(k, f, x.get(), Weights(n, 0x1p50).data());
    for (size_t c = 0; c < f.channels; c++) {
      same_data(states[c], whole[c], label.text, "ones", 4);
      CHECK(test::same(
                {great[c].count.high, great[c].mean.high, great[c].m2.high, great[c].missing},
                {states[c].count.high * 0x1p50, states[c].mean.high, states[c].m2.high * 0x1p50, states[c].missing}),
            "%s: channel %zu", label.text, c);
    }
  }
}

// ---- the rest ----

// A first guess so far off that the square of a sum overflows, where the sum of squares does not.
void bad_guess_of_great_numbers() {
  for (const size_t columns : {1, 2, 70}) {
    const Form f = {4096, columns, 1, columns + 1, 0};
    const Label label("1e153", f);
    const Guarded<double> x(f.length());
    Random random(13);
    for (size_t i = 0; i < x.size(); i++) x[i] = (i < f.all ? 1e153 : 1e148) * (1 + 0.1 * random.normal());
    compare<double>(run<double>(dispatch::active().tally_f64, f, x.get()), f, x.get(), nullptr, label.text);
  }
}

// Whatever mode the thread is in; and it is left as it was.
void hostile_mode() {
  const test::Mode own = test::mode();
  for (const Form& f : {Form{300, 24, 1, 24, 0}, Form{30, 3, 100, 3, 5}}) {
    const Guarded<float> x(f.length());
    fill(x, f);
    const Values expected = values(run<float>(dispatch::active().tally_f32, f, x.get()));
    test::set_mode(test::kHostile);
    const States states = run<float>(dispatch::active().tally_f32, f, x.get());
    const bool kept = test::mode() == test::kHostile;
    test::set_mode(own);
    CHECK(kept && test::same(values(states), expected));
  }
}

template <class S>
void check(const char* type) {
  for (const Form& f : forms()) check_form<S>(f, type);
  kernels<S>(type);
  pieces<S>(type);
}

// f(an element, its name) for each stored type.
template <class F>
void each_type(F f) {
  f(float(), "float32");
  f(double(), "float64");
  f(Float16(), "float16");
  f(BFloat16(), "bfloat16");
  f(uint8_t(), "uint8");
  f(int8_t(), "int8");
  f(int16_t(), "int16");
  f(int32_t(), "int32");
}

}  // namespace

int main(int count, char** arguments) {
  if (count == 2 && strcmp(arguments[1], "--digest") == 0) {
    each_isa([](const KernelTable& table) {
      test::Digest sum;
      each_type([&](auto s, const char*) {
        using S = decltype(s);
        for (const Form& f : forms()) {
          const Guarded<S> x(f.length());
          fill(x, f);
          sum.add(values(run<S>(table.tally_of(s), f, x.get())));
          sum.add(values(run<S>(table.tally_of(s), f, x.get(), weights(f.positions()).data())));
        }
      });
      printf("digest tally %s %016llx\n", table.name, static_cast<unsigned long long>(sum.get()));
    });
    return 0;
  }
  each_type([](auto s, const char* type) { check<decltype(s)>(type); });
  no_cut_shows<float>("float32");
  no_cut_shows<BFloat16>("bfloat16");
  no_cut_shows<uint8_t>("uint8");
  no_cut_shows<int16_t>("int16");
  no_cut_shows<int32_t>("int32");
  no_cut_shows<double>("float64");
  merging();
  weighted();
  bad_guess_of_great_numbers();
  hostile_mode();
  return test::finish();
}
