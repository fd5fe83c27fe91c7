// Local response normalization, kernels and op: powers against long double, sums and gradients against a plain
// reference; the same bits for every instruction set, number of threads, memory order and place; nothing outside a
// window shows in it, and not one byte is touched beyond an array.
//
//   local_response_test --digest    one hash for each instruction set over all outputs, to compare machines by
#include "native/ops/local_response.h"

#include <float.h>

#include "native/dispatch/dispatch.h"
#include "test/native/check.h"
#include "test/native/data.h"
#include "test/native/float_mode.h"

using namespace simdnorm;
using test::Guarded;
using test::kHostile;
using test::Kind;
using test::mode;
using test::Mode;
using test::set_mode;
using test::Values;

namespace {

constexpr size_t kTail = 64;  // guard bytes behind what kernels write

template <class F>
void each_isa(F f) {
  for (size_t isa = 0; isa < dispatch::count(); isa++) {
    if (dispatch::supported(isa)) f(dispatch::table(isa));
  }
}
const KernelTable& portable() { return dispatch::table(dispatch::count() - 1); }

// ---- powers ----

// 1 / s^beta as the kernel has it.
template <class T>
Values reciprocal_powers(const KernelTable& table, const Values& s, double beta) {
  const std::vector<T> ones(s.size(), T(1));
  std::vector<T> y(s.size());
  // -0 + s is s, whatever s is.
  table.of(T()).respond(y.data(), ones.data(), s.data(), 1, 1, s.size(), {-0.0, 1, beta});
  return Values(y.begin(), y.end());
}

const double kBetas[] = {0.75, 0.5, 1, 0.6, 1.0 / 3, 0.25, 1.5, 2, 3, 3.3, -0.5, -1, -2.7, 10, 1e-3, 700, 1e5, 1e18};

// What the contract in kernels.h allows: s^beta, one division, and the rounding to T.
template <class T>
void powers() {
  test::Random random(1);
  for (const double beta : kBetas) {
    Values s = {1, 1 + DBL_EPSILON, 1 - DBL_EPSILON / 2, 2, 0.5, sqrt(0.5), sqrt(2), DBL_MIN, 5e-324, DBL_MAX, 1e308};
    for (size_t i = 0; i < 4000; i++) {
      const double near = 1 + random.uniform();
      // Of all sizes, of those that LRN has, and such that the power is in the middle of the range.
      const double exponent[] = {random.normal() * 500, random.normal() * 2, random.normal() * 300 / fabs(beta)};
      s.push_back(exp2(fmax(-1070, fmin(1020, exponent[i % 3]))) * near);
    }
    const Values got = reciprocal_powers<T>(portable(), s, beta);
    double most = 0, at = 0;
    for (size_t i = 0; i < s.size(); i++) {
      const long double y = static_cast<long double>(beta) * logl(s[i]), exact = expl(-y);
      const long double limit = static_cast<long double>(std::numeric_limits<T>::max());
      if (exact > limit * 1.0001L) {
        CHECK(got[i] > 0 && isinf(got[i]), "1 / %a^%g is %g", s[i], beta, got[i]);
        continue;
      }
      const bool special = beta == 0.75 || beta == 0.5 || beta == 1;
      const double relative = DBL_EPSILON / 2 + (special ? 2 * DBL_EPSILON : DBL_EPSILON) +
                              (special ? 0 : static_cast<double>(fabsl(y)) * 0x1p-58) +
                              (sizeof(T) == 4 ? FLT_EPSILON / 2 + (beta == 0.75 ? 0x1p-33 : 0) : 0);
      // s^beta beyond the range: its reciprocal is a denormal, or of one.
      const bool divisor_rounded = expl(y) > static_cast<long double>(DBL_MAX) || expl(y) < 0x1p-1022L;
      const double least = static_cast<double>(std::numeric_limits<T>::denorm_min());
      // expl itself: its argument is known to 2^-64 of itself (80 bits).
      const long double bound = exact * (relative + fabsl(y) * 0x1p-62L) + least;
      const double error = static_cast<double>(fabsl(got[i] - exact) / bound);
      if (divisor_rounded) {
        CHECK(exact > 1 ? got[i] > 1e307 : got[i] < 1e-307, "1 / %a^%g is %g", s[i], beta, got[i]);
      } else if (!(error <= most)) {
        most = error;
        at = s[i];
      }
    }
    CHECK(most <= 1, "%s s^%g: %.3g times its bound at %a", sizeof(T) == 4 ? "float" : "double", beta, most, at);
    each_isa([&](const KernelTable& table) {
      const Values again = reciprocal_powers<T>(table, s, beta);
      CHECK(test::same(got, again), "%s s^%g: value %zu", table.name, beta, test::difference(got, again));
    });
  }
}

// s^-0.75 for float data, before it is rounded to float, for every float s of four octaves: what it is estimated from
// repeats itself there, and the error is four times as seldom at its ends.
void every_root_of_cube() {
  const size_t n = 1 << 16;
  const std::vector<float> ones(n, 1.0f);
  Values s(n), direct(n), ratio(n);
  double most = 0, at = 0;
  for (const int exponent : {-90, 0, 96}) {
    for (size_t begin = 0; begin < size_t(4) << 23; begin += n) {
      for (size_t i = 0; i < n; i++) {
        const size_t octave = (begin + i) >> 23, fraction = (begin + i) & 0x7fffff;
        s[i] = ldexp(static_cast<double>(0x800000 + fraction), static_cast<int>(octave) + exponent - 23);
      }
      dispatch::table(0).f32.respond_back(direct.data(), ratio.data(), ones.data(), ones.data(), s.data(), 1, 1, n,
                                          {-0.0, 1, 0.75});
      for (size_t i = 0; i < n; i++) {
        const double error = fabs(direct[i] * sqrt(s[i]) * sqrt(sqrt(s[i])) - 1);
        if (error > most) {
          most = error;
          at = s[i];
        }
      }
    }
  }
  CHECK(most > 0 && most <= 0x1p-33, "s^-0.75 of %a is off by %.3g", at, most);
}

// As C's pow has them.
void special_powers() {
  const double inf = std::numeric_limits<double>::infinity(), nan = std::numeric_limits<double>::quiet_NaN();
  const Values s = {0.0, -0.0, inf, -inf, nan, 1, -1, 2, -2, -0.5, 1e300, -1e300, 5e-324, -5e-324, -3};
  for (const double beta : {2.0, 3.0, -1.0, -2.0, 0.3, -0.3, 1.5, 1e300, -1e300, 0x1p53, 0x1p53 - 1, 0x1p70}) {
    Values expected;
    for (const double v : s) expected.push_back(1 / pow(v, beta));
    each_isa([&](const KernelTable& table) {
      const Values got = reciprocal_powers<double>(table, s, beta);
      for (size_t i = 0; i < s.size(); i++) {
        const bool near = isfinite(expected[i]) && fabs(got[i] - expected[i]) <= 4e-15 * fabs(expected[i]);
        CHECK(near || test::bits(got[i]) == test::bits(expected[i]), "%s 1 / %g^%g is %g, not %g", table.name, s[i],
              beta, got[i], expected[i]);
      }
    });
  }
}

// ---- sums over wide windows ----

void sums() {
  const double nan = std::numeric_limits<double>::quiet_NaN(), inf = std::numeric_limits<double>::infinity();
  for (const size_t rows : {1, 2, 5, 9, 20, 33}) {
    for (const size_t cols : {1, 3, 16, 37}) {
      for (const size_t before : {0, 1, 2, 6, 19, 40}) {
        for (const size_t after : {0, 1, 3, 8, 40}) {
          const size_t stride = cols + 2, n = (rows - 1) * stride + cols;
          test::Random random(rows * 100 + before * 10 + after);
          Guarded<double> given(n);
          for (size_t i = 0; i < n; i++) given[i] = random.normal();
          given[random.below(n)] = nan;
          given[random.below(n)] = inf;
          Values plain;
          each_isa([&](const KernelTable& table) {
            Guarded<double> terms(n, kTail), rest(n, kTail);
            for (size_t i = 0; i < n; i++) terms[i] = given[i];
            table.f32.window_sums(terms.get(), rest.get(), stride, rows, cols, before, after);
            CHECK(terms.intact() && rest.intact());
            const Values got(terms.get(), terms.get() + n);
            if (plain.empty()) plain = got;
            CHECK(test::same(plain, got), "%s window_sums, value %zu", table.name, test::difference(plain, got));
          });
          bool near = true;
          for (size_t row = 0; row < rows; row++) {
            for (size_t j = 0; j < stride && row * stride + j < n; j++) {
              const size_t at = row * stride + j;
              if (j >= cols) {  // between rows
                near = near && test::bits(plain[at]) == test::bits(given[at]);
                continue;
              }
              double sum = 0, size = 0;
              for (size_t i = row > before ? row - before : 0; i < rows && i <= row + after; i++) {
                sum += given[i * stride + j];
                size += fabs(given[i * stride + j]);
              }
              near = near && (isfinite(sum) ? fabs(plain[at] - sum) <= 64 * DBL_EPSILON * size
                                            : test::bits(plain[at]) == test::bits(sum));
            }
          }
          CHECK(near, "window_sums of %zu x %zu, %zu before, %zu after", rows, cols, before, after);
        }
      }
    }
  }
}

// ---- the op ----

struct Shape {
  size_t outer, channels, inner;
};
// The large ones are worth waking helpers for.
const Shape kShapes[] = {{2, 5, 1},   {1, 1, 1},    {3, 7, 3},    {2, 6, 16},   {1, 33, 17},   {2, 19, 70},
                         {1, 3, 700}, {1, 300, 65}, {5, 64, 130}, {900, 37, 1}, {1, 2, 20011}, {1, 19, 600}};
bool is_large(const Shape& s) { return s.outer * s.channels * s.inner > 8000; }

struct Reach {
  size_t before, after;
};
const Reach kReaches[] = {{0, 0}, {1, 0}, {0, 1}, {2, 2}, {3, 4}, {4, 4}, {1, 9}, {30, 2}, {size_t(1) << 52, 12}};

template <class T>
struct Problem {
  ChannelWindow w;
  Kind kind;
  std::vector<T> x, dy;

  Problem(const Shape& s, const Reach& r, Response f, Kind kind)
      : w{s.outer, s.channels, s.inner, r.before, r.after, f}, kind(kind) {
    test::Random random(w.elements() + static_cast<size_t>(kind));
    for (size_t i = 0; i < w.elements(); i++) {
      x.push_back(test::make<T>(kind, i, w.elements(), random));
      dy.push_back(static_cast<T>(random.normal()));
    }
  }
  const char* label(char* text) const {
    snprintf(text, 200, "%s %zu x %zu x %zu, %zu before, %zu after, beta %g, %s data",
             sizeof(T) == 4 ? "float" : "double", w.outer, w.channels, w.inner, w.before, w.after, w.f.beta,
             test::name(kind));
    return text;
  }
};

// f(problem): kinds of data and powers take turns, so that an emulator gets through.
template <class T, class F>
void each_problem(F f) {
  constexpr double betas[] = {0.75, 0.6, 0.5, 2, 1, 0, -0.5};
  constexpr size_t kinds = static_cast<size_t>(Kind::kCount);
  size_t next = 0;
  for (const Shape& shape : kShapes) {
    for (const Reach& reach : kReaches) {
      for (size_t kind = next % 3; kind < kinds; kind += is_large(shape) ? kinds : 3) {
        f(Problem<T>(shape, reach, {1.5, 0.3, betas[next % 7]}, static_cast<Kind>((kind + next) % kinds)));
        next++;
      }
    }
  }
}

enum class Place { kApart, kOverX, kOverDy };

// y, then dx. The caller's floating-point mode is `m` meanwhile.
template <class T>
Values run(const KernelTable& table, const Problem<T>& p, Place place = Place::kApart, Mode m = mode()) {
  const Kernels<T>& k = table.of(T());
  const size_t n = p.w.elements();
  Guarded<T> x(n), dy(n), y(n, kTail), dx(n, kTail);
  for (size_t i = 0; i < n; i++) {
    x[i] = p.x[i];
    dy[i] = p.dy[i];
    y[i] = p.x[i];
    dx[i] = place == Place::kOverX ? p.x[i] : p.dy[i];
  }
  const T* const from = place == Place::kOverX ? y.get() : x.get();
  const T* const kept = place == Place::kOverX ? dx.get() : x.get();
  const T* const gradient = place == Place::kOverDy ? dx.get() : dy.get();
  const Mode usual = mode();
  set_mode(m);
  const Status forward = local_response<T>(k, p.w, from, y.get());
  const Status back = local_response_backward<T>(k, p.w, gradient, kept, dx.get());
  const Mode after = mode();
  set_mode(usual);
  CHECK(forward == Status::kOk && back == Status::kOk && after == m);
  CHECK(y.intact() && dx.intact() && x.intact() && dy.intact());
  Values out(y.get(), y.get() + n);
  out.insert(out.end(), dx.get(), dx.get() + n);
  return out;
}

// The same in channels-last memory, brought back.
template <class T>
Values run_channels_last(const KernelTable& table, const Problem<T>& p) {
  const ChannelWindow& w = p.w;
  Problem<T> last = p;
  last.w.outer = w.outer * w.inner;
  last.w.inner = 1;
  const auto swapped = [&](size_t i) {
    const size_t s = i % w.inner, c = i / w.inner % w.channels, o = i / w.inner / w.channels;
    return (o * w.inner + s) * w.channels + c;
  };
  for (size_t i = 0; i < w.elements(); i++) {
    last.x[swapped(i)] = p.x[i];
    last.dy[swapped(i)] = p.dy[i];
  }
  const Values found = run(table, last);
  Values out(found.size());
  for (size_t i = 0; i < w.elements(); i++) {
    out[i] = found[swapped(i)];
    out[w.elements() + i] = found[w.elements() + swapped(i)];
  }
  return out;
}

// The worst error, in units of what it may be: a few roundings in T of the terms, and those of sums in double. Not
// finite where the reference is not.
template <class T>
double worst(const Problem<T>& p, const Values& got) {
  const ChannelWindow& w = p.w;
  const size_t n = w.elements();
  const double beta = w.f.beta;
  std::vector<long double> s(n), divisor(n);
  const auto index = [&](size_t o, size_t c, size_t i) { return (o * w.channels + c) * w.inner + i; };
  const auto over = [&](size_t c, size_t before, size_t after, auto f) {
    for (size_t j = c > before ? c - before : 0; j < w.channels && j <= c + after; j++) f(j);
  };
  double most = 0;
  const double eps = static_cast<double>(std::numeric_limits<T>::epsilon());
  const double least = static_cast<double>(std::numeric_limits<T>::denorm_min());
  const double terms = static_cast<double>(at_most(w.channels, 64));
  const auto compare = [&](double value, long double exact, long double size) {
    if (!isfinite(static_cast<T>(exact))) {
      if (test::bits(value) != test::bits(static_cast<double>(static_cast<T>(exact)))) most = HUGE_VAL;
      return;
    }
    const long double bound = size * (eps + (terms + 8) * DBL_EPSILON * (1 + fabs(beta))) + least;
    const double error = static_cast<double>(fabsl(value - exact) / bound);
    if (!(error <= most)) most = error;
  };
  for (size_t o = 0; o < w.outer; o++) {
    for (size_t c = 0; c < w.channels; c++) {
      for (size_t i = 0; i < w.inner; i++) {
        const size_t e = index(o, c, i);
        over(c, w.before, w.after, [&](size_t j) {
          const long double v = p.x[index(o, j, i)];
          s[e] += v * v;
        });
        s[e] = w.f.k + w.f.scale * s[e];
        divisor[e] = powl(s[e], beta);
        compare(got[e], p.x[e] / divisor[e], fabsl(p.x[e] / divisor[e]));
      }
    }
  }
  for (size_t o = 0; o < w.outer; o++) {
    for (size_t c = 0; c < w.channels; c++) {
      for (size_t i = 0; i < w.inner; i++) {
        const size_t e = index(o, c, i);
        long double sum = 0, size = 0;
        if (beta != 0) {
          over(c, w.after, w.before, [&](size_t j) {
            const size_t at = index(o, j, i);
            const long double term = p.dy[at] / divisor[at] * p.x[at] / s[at];
            sum += term;
            size += fabsl(term);
          });
        }
        const long double factor = 2 * static_cast<long double>(w.f.scale) * beta * (beta == 0 ? 0 : p.x[e]);
        const long double direct = p.dy[e] / divisor[e];
        compare(got[n + e], beta == 0 ? direct : direct - factor * sum, fabsl(direct) + fabsl(factor) * size);
      }
    }
  }
  return most;
}

template <class T>
void check(const Problem<T>& p) {
  char text[200];
  parallel::set_threads(1);
  const Values plain = run(portable(), p);
  const double error = worst(p, plain);
  CHECK(error <= 1, "%s: %.3g times its bound", p.label(text), error);
  each_isa([&](const KernelTable& table) {
    for (const size_t threads : {1, 2, 3, 7}) {
      if (!is_large({p.w.outer, p.w.channels, p.w.inner}) && threads > 1) continue;
      parallel::set_threads(threads);
      const Values again = run(table, p);
      CHECK(test::same(plain, again), "%s: %s, %zu threads, value %zu", p.label(text), table.name, threads,
            test::difference(plain, again));
    }
    for (const Place place : {Place::kOverX, Place::kOverDy}) {
      const Values again = run(table, p, place);
      CHECK(test::same(plain, again), "%s: %s, place %d, value %zu", p.label(text), table.name, static_cast<int>(place),
            test::difference(plain, again));
    }
    const Values last = run_channels_last(table, p);
    CHECK(test::same(plain, last), "%s: %s, channels last, value %zu", p.label(text), table.name,
          test::difference(plain, last));
  });
}

template <class T>
void float_environment() {
  for (const Kind kind : {Kind::kOrdinary, Kind::kDenormal}) {
    for (const double beta : {0.75, 0.6}) {
      for (const Shape& shape : {Shape{2, 19, 70}, Shape{5, 64, 130}}) {
        const Problem<T> p(shape, {2, 2}, {1.5, 0.3, beta}, kind);
        for (const size_t threads : {1, 3}) {
          parallel::set_threads(threads);
          const Values expected = run(dispatch::table(0), p);
          const Values values = run(dispatch::table(0), p, Place::kApart, kHostile);
          char text[200];
          CHECK(test::same(expected, values), "%s", p.label(text));
        }
      }
    }
  }
}

template <class T>
void all() {
  powers<T>();
  each_problem<T>(check<T>);
  float_environment<T>();
}

template <class T>
void digest(const KernelTable& table, test::Digest* out) {
  test::Random random(2);
  Values s;
  for (size_t i = 0; i < 5000; i++) {
    const int exponent = static_cast<int>(random.below(600)) - 300;
    s.push_back(ldexp(1 + random.uniform(), exponent));
  }
  for (const double beta : kBetas) out->add(reciprocal_powers<T>(table, s, beta));
  each_problem<T>([&](const Problem<T>& p) { out->add(run(table, p)); });
}

}  // namespace

int main(int count, char** arguments) {
  if (count == 2 && strcmp(arguments[1], "--digest") == 0) {
    parallel::set_threads(2);
    each_isa([](const KernelTable& table) {
      test::Digest sum;
      digest<float>(table, &sum);
      digest<double>(table, &sum);
      printf("digest local_response %s %016llx\n", table.name, static_cast<unsigned long long>(sum.get()));
    });
    return 0;
  }
  sums();
  special_powers();
  every_root_of_cube();
  all<float>();
  all<double>();
  return test::finish();
}
