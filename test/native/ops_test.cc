// normalize(), backward() and all_moments() for every kind of geometry: near a plain double reference; the same bits
// for every number of threads and every instruction set, in place, and whatever the caller's floating-point mode is.
//
//   ops_test --threads   only that with threads, in float, for ThreadSanitizer
//   ops_test --digest    one hash for each instruction set over all outputs, to compare machines by
#include <float.h>
#include <stdlib.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <new>
#include <thread>

#include "native/dispatch/cpu.h"
#include "native/dispatch/dispatch.h"
#include "native/ops/kinds.h"
#include "test/native/check.h"
#include "test/native/data.h"
#include "test/native/float_mode.h"

using namespace simdnorm;
using test::kHostile;
using test::Kind;
using test::mode;
using test::Mode;
using test::set_mode;
using test::Values;

namespace {

// Working memory is refused after so many more requests; never, below 0.
std::atomic<long> requests_left{-1};
std::atomic<bool> refused{false};

}  // namespace

// What Scratch asks.
void* operator new(size_t bytes, std::align_val_t align, const std::nothrow_t&) noexcept {
  if (requests_left == 0) {
    refused = true;
    return nullptr;
  }
  if (requests_left > 0) requests_left--;
  const size_t line = static_cast<size_t>(align);
  return aligned_alloc(line, (bytes + line - 1) / line * line);
}
void operator delete(void* memory, std::align_val_t) noexcept { free(memory); }

namespace {

// ---- problems ----

struct Layer {
  const char* name;
  Geometry g;
};

// Dimensions pairwise different. The large ones are worth waking helpers for, and most have more than one unit of a
// sum.
const Layer kLayers[] = {
    {"rows by channel", {1, 5, 3, 77, 77, 3}},
    {"rows by channel, long", {1, 3, 2, 40000, 40000, 2}},
    {"rows by channel, short and many", {1, 300, 5, 19, 19, 5}},
    {"rows by channel, batch", {4, 1, 3, 50, 50, 3}},
    {"rows by channel, group", {3, 1, 2, 105, 35, 6}},
    {"rows by channel, group, long", {2, 1, 3, 9000, 3000, 9}},
    {"rows by element", {7, 1, 1, 130, 1, 130}},
    {"rows by element, long", {2, 1, 1, 70001, 1, 70001}},
    {"rows by element, many", {1000, 1, 1, 33, 1, 33}},
    {"rows by element, long and many", {53, 1, 1, 5003, 1, 5003}},
    {"rows by element, parts", {120, 1, 1, 900, 1, 900}},
    {"rows by element, group", {5, 1, 3, 4, 1, 12}},
    {"rows by element, group, long", {11, 1, 2, 4500, 1, 9000}},
    {"rows by element, of whole vectors", {70, 1, 1, 528, 1, 528}},
    {"columns", {1, 300, 17, 1, 1, 17}},
    {"columns, tall", {1, 9000, 5, 1, 1, 5}},
    {"columns, batch", {16, 200, 11, 1, 1, 11}},
    {"columns, one row", {6, 1, 5, 1, 1, 5}},
    {"grouped columns", {3, 130, 4, 5, 1, 20}},
    {"grouped columns, tall", {2, 4500, 2, 3, 1, 6}},
    {"rows are channels", {4, 9, 35, 1, 35, 9}},
    {"rows are channels, many", {3, 700, 40, 1, 40, 700}},
    {"rows are channels, long", {2, 5, 9000, 1, 9000, 5}},
};
bool is_large(const Geometry& g) { return g.elements() > 25000; }

struct Variant {
  const char* name;
  About about;
  bool running, weight, bias, relu, add;
};
const Variant kVariants[] = {
    {"affine", About::kMean, false, true, true, false, false},
    {"plain", About::kMean, false, false, false, false, false},
    {"bias", About::kMean, false, false, true, false, false},
    {"about 0", About::kZero, false, true, false, false, false},
    {"about 0, plain", About::kZero, false, false, false, false, false},
    {"running", About::kMean, true, true, true, false, false},
    {"relu", About::kMean, false, true, true, true, false},
    {"relu, plain", About::kMean, false, false, false, true, false},
    {"add, relu", About::kMean, false, true, true, true, true},
    {"add", About::kMean, false, true, false, false, true},
    {"running, add, relu", About::kMean, true, true, true, true, true},
};

// Data times 2^exponent, beyond what the kernels' arithmetic can square.
template <class T>
constexpr int kVast = sizeof(T) == sizeof(float) ? 112 : 520;

template <class T>
struct Problem {
  Layer layer;
  Variant variant;
  Kind kind;
  int exponent;
  double eps;
  std::vector<T> x, dy, add, weight, bias, running_mean, running_var;

  Problem(const Layer& layer, const Variant& variant, Kind kind, int exponent)
      : layer(layer), variant(variant), kind(kind), exponent(exponent), eps(exponent == 0 ? 1e-5 : 0) {
    const Geometry& g = layer.g;
    test::Random random(g.elements() + static_cast<size_t>(kind));
    for (size_t i = 0; i < g.elements(); i++) {
      x.push_back(static_cast<T>(ldexp(static_cast<double>(test::make<T>(kind, i, g.elements(), random)), exponent)));
      dy.push_back(static_cast<T>(random.normal()));
      add.push_back(static_cast<T>(random.normal()));
    }
    for (size_t c = 0; c < g.channels; c++) {
      weight.push_back(static_cast<T>(1 + random.normal() / 4));
      bias.push_back(static_cast<T>(random.normal()));
    }
    for (size_t s = 0; s < g.groups; s++) {
      running_mean.push_back(static_cast<T>(random.normal()));
      running_var.push_back(static_cast<T>(0.5 + random.uniform()));
    }
  }
  const char* label(char* text) const {
    snprintf(text, 200, "%s %s, %s, %s data * 2^%d", sizeof(T) == 4 ? "float" : "double", layer.name, variant.name,
             test::name(kind), exponent);
    return text;
  }
};

// f(problem). Large geometries, slow in an emulator, have fewer: how the work is cut depends on none of the rest.
template <class T, class F>
void each_problem(F f) {
  for (const Layer& layer : kLayers) {
    for (const Variant& variant : kVariants) {
      const bool usual = variant.weight && !(variant.relu && !variant.add);
      if (is_large(layer.g) && !usual) continue;
      for (size_t i = 0; i < static_cast<size_t>(Kind::kCount); i++) {
        const Kind kind = static_cast<Kind>(i);
        if (is_large(layer.g) && kind != Kind::kOrdinary) continue;
        f(Problem<T>(layer, variant, kind, 0));
      }
      if (variant.running) continue;
      f(Problem<T>(layer, variant, Kind::kOrdinary, kVast<T>));
      if (!is_large(layer.g)) f(Problem<T>(layer, variant, Kind::kOrdinary, -kVast<T>));
    }
  }
}

// ---- running them ----

template <class S>
struct Result {
  using T = Value<S>;
  std::vector<S> y, dx, gated;
  std::vector<T> dweight, dbias, running_mean, running_var;
  std::vector<Statistic> saved;
  std::vector<Moments> moments;

  Values values() const {
    Values out;
    for (const std::vector<S>* part : {&y, &dx, &gated}) {
      for (const S v : *part) out.push_back(wide(v));
    }
    for (const std::vector<T>* part : {&dweight, &dbias, &running_mean, &running_var}) {
      for (const T v : *part) out.push_back(static_cast<double>(v));
    }
    for (const Statistic& s : saved) out.insert(out.end(), {s.mean, s.rest, s.var, s.rstd, s.scale});
    for (const Moments& m : moments) out.insert(out.end(), {m.count, m.mean, m.mean_low, m.m2, m.m2_low});
    return out;
  }
};

template <class S>
std::vector<S> as_stored(const std::vector<Value<S>>& values) {
  std::vector<S> out;
  for (const Value<S> v : values) out.push_back(stored<S>(v));
  return out;
}

// All data as the one part of themselves, in the calls that parts are made with: everything has the same bits. Of what
// `r` has been made with.
template <class S>
void check_one_part(const Kernels<S>& k, Normalize<S> forward, Backward<S> back, const Result<S>& r) {
  using T = Value<S>;
  const Geometry& g = forward.g;
  Result<S> part = r;
  statistics_of_parts<T>(r.moments.data(), 1, g.groups, forward.rule, part.saved.data());
  part.y.assign(part.y.size(), stored<S>(T(0)));
  forward.y = part.y.data();
  forward.saved = part.saved.data();
  forward.use_running = true;
  forward.count = static_cast<double>(g.count());
  forward.running_mean = forward.running_var = nullptr;
  CHECK(normalize(k, forward) == Status::kOk);

  std::vector<double> sums(4 * g.channels);
  part.dweight.assign(g.channels, T(1));
  part.dbias.assign(g.channels, T(2));
  part.dx.assign(part.dx.size(), stored<S>(T(0)));
  back.saved = part.saved.data();
  back.count = forward.count;
  back.dx = nullptr;
  back.dweight = back.dbias = nullptr;
  back.sums = sums.data();
  if (back.gated) back.gated = part.gated.data();
  CHECK(backward(k, back) == Status::kOk);
  std::copy_n(sums.begin(), 2 * g.channels, sums.begin() + static_cast<ptrdiff_t>(2 * g.channels));
  if (back.gated) back.dy = back.gated;
  back.gated = nullptr;
  back.add = nullptr;
  back.bias = nullptr;
  back.sums = nullptr;
  back.totals = sums.data();
  back.dx = part.dx.data();
  back.dweight = part.dweight.data();
  back.dbias = part.dbias.data();
  CHECK(backward(k, back) == Status::kOk);
  CHECK(test::same(r.values(), part.values()), "the one part of itself");
}

// Outputs over inputs: y over x, or over what is added to it; dx over x, or over dy; the gate's output over dy, or dx.
enum class Place { kApart, kOverX, kOverDy };

template <class S>
Result<S> run(size_t isa, const Problem<Value<S>>& p, Place place = Place::kApart) {
  using T = Value<S>;
  const Kernels<S>& k = dispatch::table(isa).of(S());
  const Geometry& g = p.layer.g;
  const std::vector<S> x = as_stored<S>(p.x), dy = as_stored<S>(p.dy), add = as_stored<S>(p.add);
  const bool over_x = place == Place::kOverX, over_dy = place == Place::kOverDy, relu = p.variant.relu;
  const bool over_add = over_dy && p.variant.add;
  Result<S> r;
  r.y = over_x ? x : over_add ? add : std::vector<S>(g.elements());
  r.dx = over_x ? x : over_dy ? dy : std::vector<S>(g.elements());
  if (relu) r.gated = over_x ? dy : std::vector<S>(g.elements());
  r.dweight.resize(g.channels, T(1));  // added to
  r.dbias.resize(g.channels, T(2));
  r.running_mean = p.running_mean;
  r.running_var = p.running_var;
  r.saved.resize(g.statistics());
  r.moments.resize(g.statistics());
  // Whether there was memory for a call. If not, nothing may have been written.
  Values before = requests_left < 0 ? Values() : r.values();
  const auto done = [&](Status status) {
    CHECK(status == (refused ? Status::kOutOfMemory : Status::kOk));
    if (refused) CHECK(test::same(before, r.values()), "%s: written to, without memory for the rest", p.layer.name);
    if (requests_left >= 0) before = r.values();
    return status == Status::kOk;
  };

  // Of another place in a line than the data: where there are many rows, the ops lay out a copy.
  std::vector<T> weight(g.channels + 1);
  const size_t off = behind_line(weight.data()) == behind_line(r.y.data()) ? 1 : 0;
  std::copy(p.weight.begin(), p.weight.end(), weight.begin() + static_cast<ptrdiff_t>(off));

  Normalize<S> forward;
  forward.g = g;
  forward.rule = {p.eps, p.variant.about, true};
  forward.x = over_x ? r.y.data() : x.data();
  forward.y = r.y.data();
  forward.weight = p.variant.weight ? weight.data() + off : nullptr;
  forward.bias = p.variant.bias ? p.bias.data() : nullptr;
  forward.finish = {!p.variant.add ? nullptr : over_add ? r.y.data() : add.data(), relu};
  forward.saved = r.saved.data();
  forward.use_running = p.variant.running;
  forward.momentum = 0.25;
  forward.running_mean = r.running_mean.data();
  forward.running_var = r.running_var.data();
  if (!done(normalize(k, forward))) return r;

  Backward<S> back;
  back.g = g;
  back.about = p.variant.about;
  back.constant = p.variant.running;
  back.dy = over_dy ? r.dx.data() : over_x && relu ? r.gated.data() : dy.data();
  back.x = over_x ? r.dx.data() : x.data();
  back.dx = r.dx.data();
  back.weight = forward.weight;
  back.saved = r.saved.data();
  back.dweight = r.dweight.data();
  back.dbias = r.dbias.data();
  back.gated = relu ? r.gated.data() : nullptr;
  back.add = p.variant.add ? add.data() : nullptr;
  back.bias = forward.bias;
  if (!done(backward(k, back))) return r;
  if (!done(all_moments(k, g, x.data(), p.variant.about, r.moments.data()))) return r;
  if (relu && place == Place::kApart && mode() != kHostile &&
      requests_left < 0) {  // the comparisons below would be hostile too
    bool right = true;
    for (size_t e = 0; e < g.elements(); e++) {
      const bool shut = wide(r.y[e]) <= 0 && sizeof(S) > 2;  // a 16-bit y may be 0 by rounding
      right = right && (wide(r.gated[e]) == (shut ? 0 : wide(dy[e])) || (sizeof(S) == 2 && wide(r.gated[e]) == 0));
    }
    CHECK(right, "the gate of the ReLU");
    // Without an array of its own the gate uses dx.
    std::vector<S> dx(g.elements());
    back.gated = back.dx = dx.data();
    std::vector<T> dweight(g.channels, T(1)), dbias(g.channels, T(2));
    back.dweight = dweight.data();
    back.dbias = dbias.data();
    CHECK(backward(k, back) == Status::kOk);
    Result<S> shared = r;
    shared.dx = dx;
    shared.dweight = dweight;
    shared.dbias = dbias;
    CHECK(test::same(r.values(), shared.values()), "gated in dx");
  }
  bool scaled = false;
  for (const Statistic& s : r.saved) scaled = scaled || s.scale != 1;
  const bool channels = g.batch == 1 && g.groups == g.channels && p.variant.about == About::kMean;
  if (channels && !p.variant.running && !scaled && place == Place::kApart && mode() != kHostile && requests_left < 0) {
    check_one_part(k, forward, back, r);
  }
  return r;
}

// ---- the reference ----

// The worst error of each output, in units of what it may be. Two passes in double over one statistic after the other,
// on data brought back from 2^exponent.
template <class T>
double worst(const Problem<T>& p, const Result<T>& r) {
  const Geometry& g = p.layer.g;
  const double n = static_cast<double>(g.count()), unit = ldexp(1, -p.exponent);
  // A few roundings in T, twice what was ever seen (sums could do worse: kernels_test.cc); n of them in the reference.
  const double bound = 8 * static_cast<double>(std::numeric_limits<T>::epsilon()) + n * DBL_EPSILON;
  // The mean of double denormals is rounded to one of them, and xHat has that error times rstd, up to 1 / sqrt(eps).
  const double least = 320 * static_cast<double>(std::numeric_limits<T>::denorm_min());
  double most = 0;
  const auto compare = [&](double got, double want, double size) {
    const double error = fabs(got - want) / (bound * (fabs(want) + size) + least);
    if (!(error <= most)) most = error;
  };
  std::vector<double> dweight(g.channels, 1), dbias(g.channels, 2), dweight_size(g.channels, 1),
      dbias_size(g.channels, 2);
  std::vector<double> mean_of(g.groups), var_of(g.groups), spread_of(g.groups);
  for (size_t s = 0; s < g.statistics(); s++) {
    std::vector<size_t> at;
    for (size_t o = 0; o < g.outer; o++) {
      for (size_t i = 0; i < g.inner; i++) at.push_back(g.begin(s) + o * g.stride() + i);
    }
    // Distances from the first element, because the last bit of a mean of 10000 is much to a spread of 1.
    double origin = p.variant.about == About::kMean ? static_cast<double>(p.x[at[0]]) * unit : 0;
    const auto value = [&](size_t e) { return static_cast<double>(p.x[e]) * unit - origin; };
    const auto channel = [&](size_t e) { return e / g.run % g.channels; };
    double sum = 0, mean = 0, var = 0;
    if (p.variant.about == About::kMean) {
      for (const size_t e : at) sum += value(e);
      mean = sum / n;
    }
    for (const size_t e : at) var += (value(e) - mean) * (value(e) - mean) / n;

    const size_t group = s % g.groups;
    const double batch = static_cast<double>(g.batch), spread = sqrt(var);
    mean_of[group] += (origin + mean) / batch;
    var_of[group] += var * (n / (n - 1)) / batch;
    spread_of[group] += spread;
    if (p.exponent == 0) {
      compare(r.moments[s].mean, origin + mean, spread);
      compare(r.moments[s].m2 / n, var, 0);
    }
    if (p.variant.running) {
      origin = 0;
      mean = static_cast<double>(p.running_mean[group]);
      var = static_cast<double>(p.running_var[group]);
    }
    const double rstd = var + p.eps == 0 ? 0 : 1 / sqrt(var + p.eps);

    double h_mean = 0, h_xhat_mean = 0, h_size = 0, h_xhat_size = 0;
    const auto x_hat = [&](size_t e) { return (value(e) - mean) * rstd; };
    const auto weight = [&](size_t e) { return p.variant.weight ? static_cast<double>(p.weight[channel(e)]) : 1; };
    // Behind a ReLU, what the result's own y let through: near 0 the reference may see the other sign.
    const auto dy_of = [&](size_t e) { return p.variant.relu && r.y[e] <= 0 ? 0 : static_cast<double>(p.dy[e]); };
    const auto h = [&](size_t e) { return dy_of(e) * weight(e); };
    // The mean is known to within roundings of the spread: so is xHat, hence "1 + |xHat|".
    const auto x_hat_size = [&](size_t e) { return spread * rstd + fabs(x_hat(e)); };
    for (const size_t e : at) {
      const size_t c = channel(e);
      const double dy = dy_of(e), bias = p.variant.bias ? static_cast<double>(p.bias[c]) : 0;
      const double add = p.variant.add ? static_cast<double>(p.add[e]) : 0, y = x_hat(e) * weight(e) + bias + add;
      compare(static_cast<double>(r.y[e]), p.variant.relu && y < 0 ? 0 : y,
              fabs(bias) + fabs(add) + x_hat_size(e) * fabs(weight(e)));
      dweight[c] += dy * x_hat(e);
      dbias[c] += dy;
      dweight_size[c] += fabs(dy) * x_hat_size(e);
      dbias_size[c] += fabs(dy);
      h_mean += h(e) / n;
      h_xhat_mean += h(e) * x_hat(e) / n;
      h_size += fabs(h(e)) / n;
      h_xhat_size += fabs(h(e)) * x_hat_size(e) / n;
    }
    if (p.variant.running) h_mean = h_xhat_mean = h_size = h_xhat_size = 0;
    if (p.variant.about == About::kZero) h_mean = 0;
    for (const size_t e : at) {
      const double dx = h(e) - h_mean - x_hat(e) * h_xhat_mean;
      const double size = fabs(h(e)) + h_size + x_hat_size(e) * h_xhat_size;
      compare(static_cast<double>(r.dx[e]), dx * rstd * unit, size * rstd * unit);
    }
  }
  for (size_t c = 0; c < g.channels; c++) {
    compare(static_cast<double>(r.dweight[c]), dweight[c], dweight_size[c]);
    compare(static_cast<double>(r.dbias[c]), dbias[c], dbias_size[c]);
  }
  if (p.exponent != 0 || n < 2 || p.variant.running) return most;
  for (size_t s = 0; s < g.groups; s++) {
    const double old_mean = static_cast<double>(p.running_mean[s]), old_var = static_cast<double>(p.running_var[s]);
    compare(static_cast<double>(r.running_mean[s]), 0.25 * mean_of[s] + 0.75 * old_mean, fabs(old_mean) + spread_of[s]);
    compare(static_cast<double>(r.running_var[s]), 0.25 * var_of[s] + 0.75 * old_var, old_var);
  }
  return most;
}

// float kernels cannot hold a variance of 1e60 in running_var; double can.
template <class T>
bool has_reference(const Problem<T>& p) {
  return test::finite(p.kind) && !(p.kind == Kind::kHuge && sizeof(T) == sizeof(float));
}

// ---- the tests ----

template <class T>
void check(const Problem<T>& p) {
  char text[200];
  const size_t portable = dispatch::count() - 1;
  parallel::set_threads(1);
  const Result<T> plain = run<T>(portable, p);
  const Values values = plain.values();
  if (has_reference(p)) {
    const double error = worst(p, plain);
    CHECK(error <= 1, "%s: %.3g times its bound", p.label(text), error);
  }
  for (size_t isa = 0; isa <= portable; isa++) {
    if (!dispatch::supported(isa)) continue;
    const char* name = dispatch::table(isa).name;
    for (const size_t threads : {1, 2, 3, 7}) {
      if (!is_large(p.layer.g) && threads > 2) continue;  // the caller alone does it
      parallel::set_threads(threads);
      const Values again = run<T>(isa, p).values();
      CHECK(test::same(values, again), "%s: %s, %zu threads, value %zu", p.label(text), name, threads,
            test::difference(values, again));
    }
    for (const Place place : {Place::kOverX, Place::kOverDy}) {
      const Values again = run<T>(isa, p, place).values();
      CHECK(test::same(values, again), "%s: %s, place %d, value %zu", p.label(text), name, static_cast<int>(place),
            test::difference(values, again));
    }
  }
}

// Enough of the problems for what only loads and stores differ in.
template <class T>
bool compared(const Problem<T>& p) {
  return (p.kind == Kind::kOrdinary && p.exponent == 0) || (p.kind == Kind::kNan && p.variant.bias);
}

// 16-bit storage gives what float gives on the same values, rounded once where a result is stored.
template <class S>
void check_storage(Problem<float> p) {
  if (!compared(p)) return;
  const auto round = [](std::vector<float>& values) {
    for (float& v : values) v = value_of(stored<S>(v));
  };
  round(p.x);
  round(p.dy);
  round(p.add);
  parallel::set_threads(1);
  const Result<float> wide_result = run<float>(0, p);
  Result<S> expected;
  expected.y = as_stored<S>(wide_result.y);
  expected.dx = as_stored<S>(wide_result.dx);
  expected.gated = as_stored<S>(wide_result.gated);
  expected.dweight = wide_result.dweight;
  expected.dbias = wide_result.dbias;
  expected.running_mean = wide_result.running_mean;
  expected.running_var = wide_result.running_var;
  expected.saved = wide_result.saved;
  expected.moments = wide_result.moments;
  const Values values = expected.values();
  char text[200];
  for (size_t isa = 0; isa < dispatch::count(); isa++) {
    if (!dispatch::supported(isa)) continue;
    parallel::set_threads(isa == 0 ? 2 : 1);
    for (const Place place : {Place::kApart, Place::kOverX, Place::kOverDy}) {
      const Values again = run<S>(isa, p, place).values();
      CHECK(test::same(values, again), "16-bit %s: %s, place %d, value %zu", p.label(text), dispatch::table(isa).name,
            static_cast<int>(place), test::difference(values, again));
    }
  }
}

template <class T>
void float_environment() {
  const Mode usual = mode();
  for (const Layer& layer : kLayers) {
    for (const Variant& variant : kVariants) {
      for (const Kind kind : {Kind::kOrdinary, Kind::kDenormal}) {
        if (is_large(layer.g) && (kind != Kind::kDenormal || !variant.bias)) continue;
        const Problem<T> p(layer, variant, kind, 0);
        for (const size_t threads : {1, 3}) {
          parallel::set_threads(threads);
          const Values expected = run<T>(0, p).values();
          set_mode(kHostile);
          const Result<T> result = run<T>(0, p);
          const Mode after = mode();
          set_mode(usual);
          char text[200];
          CHECK(after == kHostile, "%s", p.label(text));
          const Values values = result.values();
          CHECK(test::same(expected, values), "%s, %zu threads: value %zu", p.label(text), threads,
                test::difference(expected, values));
        }
      }
    }
  }
}

// A channel that is gone through in double does not change the bits of the one beside it.
template <class T>
void neighbours() {
  size_t layers = 0;
  for (const Layer& layer : kLayers) {
    if (layer.g.batch > 1 || layer.g.groups < 2 || layer.g.channels != layer.g.groups) continue;
    layers++;
    Problem<T> p(layer, kVariants[0], Kind::kOrdinary, 0);
    const Geometry& g = p.layer.g;
    const Result<T> ordinary = run<T>(0, p);
    const auto group_of = [&](size_t e) { return e % g.stride() / g.inner; };
    for (size_t e = 0; e < g.elements(); e++) {
      if (group_of(e) == 1) p.x[e] = static_cast<T>(ldexp(static_cast<double>(p.x[e]), kVast<T>));
    }
    const Result<T> mixed = run<T>(0, p);
    bool alike = true;
    for (size_t e = 0; e < g.elements(); e++) {
      alike = alike && (group_of(e) == 1 || (ordinary.y[e] == mixed.y[e] && ordinary.dx[e] == mixed.dx[e]));
    }
    for (size_t c = 0; c < g.channels; c++) {
      alike = alike && (c == 1 || (ordinary.dweight[c] == mixed.dweight[c] && ordinary.dbias[c] == mixed.dbias[c]));
    }
    CHECK(alike, "%s", p.layer.name);
  }
  CHECK(layers >= 5);
}

// Cache sizes choose order, company and the kind of stores, never a bit: with caches of almost nothing every output is
// streamed, with vast ones none is.
template <class T>
void caches() {
  const cpu::Caches own = cpu::caches();
  for (const Layer& layer : kLayers) {
    for (const size_t v : {0, 6}) {
      const Problem<T> p(layer, kVariants[v], Kind::kOrdinary, 0);
      parallel::set_threads(1);
      const Values expected = run<T>(0, p).values();
      for (const cpu::Caches c :
           {cpu::Caches{1 << 12, 1 << 14}, {1 << 18, 1 << 20}, {size_t(1) << 40, size_t(1) << 40}}) {
        cpu::use_caches(c);
        for (const size_t threads : {1, 3}) {
          parallel::set_threads(threads);
          for (const Place place : {Place::kApart, Place::kOverX, Place::kOverDy}) {
            const Values again = run<T>(0, p, place).values();
            char text[200];
            CHECK(test::same(expected, again), "%s: L2 %zu, %zu threads, place %d, value %zu", p.label(text), c.l2,
                  threads, static_cast<int>(place), test::difference(expected, again));
          }
        }
      }
      cpu::use_caches(own);
    }
  }
}

// An op has measured its working memory for two threads and waits its turn while another caller raises the number.
template <class T>
void threads_raised_meanwhile() {
  for (const Layer& layer : kLayers) {
    if (!is_large(layer.g)) continue;
    const Problem<T> p(layer, kVariants[0], Kind::kOrdinary, 0);
    parallel::set_threads(1);
    const Values expected = run<T>(0, p).values();
    parallel::set_threads(2);
    std::thread op;
    Values values;
    auto hold = [&] {
      op = std::thread([&] { values = run<T>(0, p).values(); });
      std::this_thread::sleep_for(std::chrono::milliseconds(20));
      parallel::set_threads(7);
    };
    const parallel::Body body = [](void* self, size_t, size_t, size_t) { (*static_cast<decltype(hold)*>(self))(); };
    parallel::run(2, 1, 1, body, &hold);
    op.join();
    CHECK(test::same(expected, values), "%s", layer.name);
  }
}

// The pool takes one caller after the other.
template <class T>
void callers_at_once() {
  size_t variant = 0;
  for (const Layer& layer : kLayers) {
    if (!is_large(layer.g)) continue;
    const Problem<T> p(layer, kVariants[variant++ % (sizeof(kVariants) / sizeof(Variant))], Kind::kOrdinary, 0);
    parallel::set_threads(1);
    const Values expected = run<T>(0, p).values();
    parallel::set_threads(3);
    Values values[2];
    std::thread other([&] { values[0] = run<T>(0, p).values(); });
    values[1] = run<T>(0, p).values();
    other.join();
    char text[200];
    for (const Values& v : values) CHECK(test::same(expected, v), "%s", p.label(text));
  }
}

template <class T>
void threads() {
  threads_raised_meanwhile<T>();
  callers_at_once<T>();
}

// Every request for memory is refused once.
template <class T>
void out_of_memory() {
  parallel::set_threads(3);
  for (const Layer& layer : kLayers) {
    const Problem<T> p(layer, kVariants[8], Kind::kOrdinary, 0);
    long requests = 0;
    do {
      refused = false;
      requests_left = requests++;
      run<T>(0, p);
    } while (refused);
    requests_left = -1;
    CHECK(requests > 3, "%s: %ld requests", layer.name, requests);
  }
}

template <class T>
void all() {
  each_problem<T>(check<T>);
  float_environment<T>();
  neighbours<T>();
  caches<T>();
  threads<T>();
  out_of_memory<T>();
}

template <class S>
void digest(size_t isa, test::Digest* out) {
  each_problem<Value<S>>([&](const Problem<Value<S>>& p) {
    if (sizeof(S) > 2 || compared(p)) out->add(run<S>(isa, p).values());
  });
}

}  // namespace

int main(int count, char** arguments) {
  if (count == 2 && strcmp(arguments[1], "--digest") == 0) {
    parallel::set_threads(2);
    for (size_t isa = 0; isa < dispatch::count(); isa++) {
      if (!dispatch::supported(isa)) continue;
      test::Digest sum;
      digest<float>(isa, &sum);
      digest<double>(isa, &sum);
      digest<Float16>(isa, &sum);
      digest<BFloat16>(isa, &sum);
      printf("digest ops %s %016llx\n", dispatch::table(isa).name, static_cast<unsigned long long>(sum.get()));
    }
    return 0;
  }
  if (count == 2 && strcmp(arguments[1], "--threads") == 0) {
    threads<float>();
    return test::finish();
  }
  all<float>();
  all<double>();
  each_problem<float>(check_storage<Float16>);
  each_problem<float>(check_storage<BFloat16>);
  return test::finish();
}
