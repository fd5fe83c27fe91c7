// Speed and error of ways to a mean and a variance, and of the product's kernels, as JSON lines for bench/moments.mjs.
//   VARIANTS: V(name) for each set of kernels and peers that is linked in
#include "bench/kernels/peers.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include <algorithm>
#include <chrono>
#include <functional>
#include <string>
#include <vector>

#include "native/ops/normalize.h"

namespace simdnorm {
#define V(name)                      \
  extern const KernelTable k_##name; \
  extern const Peers peers_##name;
VARIANTS
#undef V

namespace {

Moments product(const KernelTable& k, const float* x, size_t n) {
  Moments m;
  all_moments<float>(k.f32, {1, 1, 1, n, 1, n}, x, About::kMean, &m);
  return m;
}

struct Variant {
  const char* name;
  const KernelTable& k;
  std::vector<Way> ways;
  Variant(const char* name, const KernelTable& k, const Peers& peers) : name(name), k(k), ways{{"product", product}} {
    ways.insert(ways.end(), std::begin(peers.ways), std::end(peers.ways));
  }
};
const Variant kVariants[] = {
#define V(name) {#name, k_##name, peers_##name},
    VARIANTS
#undef V
};

// Uniform in [0, 1), the same numbers everywhere.
double uniform(size_t at) {
  uint32_t h = (static_cast<uint32_t>(at) + 11 * 0x9E3779B1u) * 0x85EBCA6Bu;
  h = (h ^ h >> 15) * 0xC2B2AE35u;
  return ((h ^ h >> 13) >> 8) / 16777216.0;
}

// ---- error ----

void errors() {
  const size_t n = 1000003;
  const auto spread = [](size_t i) { return (uniform(i) - 0.5) * sqrt(12.0); };
  const std::pair<const char*, std::function<double(size_t)>> sets[] = {
      {"mean/std 1", [=](size_t i) { return 1 + spread(i); }},
      {"mean/std 1e2", [=](size_t i) { return 1e2 + spread(i); }},
      {"mean/std 1e4", [=](size_t i) { return 1e4 + spread(i); }},
      {"mean/std 1e6", [=](size_t i) { return 1e6 + spread(i); }},
      {"outlier of 1e6 std, first", [=](size_t i) { return i == 0 ? 1e6 : spread(i); }},
      {"outlier of 1e6 std, last", [=](size_t i) { return i == n - 1 ? 1e6 : spread(i); }},
      {"two values in turn", [=](size_t i) { return i % 2 ? 0.7 : -0.1; }},
      {"ramp, 0 to 1e6", [=](size_t i) { return static_cast<double>(i); }},
      {"step of 1e4 std", [=](size_t i) { return (i < n / 2 ? 0 : 1e4) + spread(i); }},
      {"std 1e30", [=](size_t i) { return 1e30 * spread(i); }},
      {"std 1e-30", [=](size_t i) { return 1e-30 * spread(i); }},
      {"constant 1/3", [=](size_t) { return 1.0 / 3; }},
  };
  std::vector<float> x(n);
  for (const auto& [name, value] : sets) {
    for (size_t i = 0; i < n; i++) x[i] = static_cast<float>(value(i));
    long double mean = 0, m2 = 0;
    for (float v : x) mean += static_cast<long double>(v) - x[0];
    mean = x[0] + mean / n;
    for (float v : x) m2 += (v - mean) * (v - mean);
    for (const Variant& v : kVariants) {
      for (const Way& way : v.ways) {
        const Moments m = way.moments(v.k, x.data(), n);
        const long double got = static_cast<long double>(m.m2) + m.m2_low;
        // Of constants, whose variance is 0: the standard deviation found, relative to the mean.
        const double error = static_cast<double>(m2 > 0 ? fabsl(got / m2 - 1) : sqrtl(fabsl(got / n)) / fabsl(mean));
        char text[32] = "null";
        if (isfinite(error)) snprintf(text, sizeof text, "%.1e", error);
        printf("{\"set\":\"%s\",\"variant\":\"%s\",\"way\":\"%s\",\"error\":%s,\"bits\":\"%a %a\"}\n", name, v.name,
               way.name, text, m.mean, m.m2);
      }
    }
  }
}

// ---- speed ----

// Jobs in turn, A B C A B C; each line is printed with its rate, the median over the rounds, in GB/s of what it
// touches.
struct Job {
  std::string kind, what;
  const char *variant, *where;
  size_t bytes;
  std::function<void()> run;
};
void race(const std::vector<Job>& jobs, size_t rounds) {
  using Clock = std::chrono::steady_clock;
  std::vector<std::vector<double>> found(jobs.size());
  for (size_t r = 0; r < rounds * jobs.size(); r++) {
    const Job& job = jobs[r % jobs.size()];
    const size_t calls = std::max<size_t>(1, (8 << 20) / job.bytes);
    for (int warm = 0; warm < 3; warm++) job.run();  // a victim cache takes more than one
    const auto begin = Clock::now();
    for (size_t i = 0; i < calls; i++) job.run();
    const double seconds = std::chrono::duration<double>(Clock::now() - begin).count();
    found[r % jobs.size()].push_back(static_cast<double>(job.bytes * calls) / seconds / 1e9);
  }
  for (size_t j = 0; j < jobs.size(); j++) {
    std::sort(found[j].begin(), found[j].end());
    printf("{\"%s\":\"%s\",\"variant\":\"%s\",\"where\":\"%s\",\"gbs\":%.2f}\n", jobs[j].kind.c_str(),
           jobs[j].what.c_str(), jobs[j].variant, jobs[j].where, found[j][rounds / 2]);
  }
}

template <class T>
Normalize<T> layer_norm(size_t rows, size_t row, const T* x, T* y) {
  Normalize<T> op = {};
  op.g = {rows, 1, 1, row, 1, row};
  op.rule = {1e-5, About::kMean, false};
  op.x = x;
  op.y = y;
  return op;
}

void speeds(size_t rounds, bool large) {
  std::vector<std::pair<const char*, size_t>> places = {
      {"L1", 16 << 10}, {"L2", 400 << 10}, {"L3", 12 << 20}, {"DRAM", 192 << 20}};
  if (!large) places.resize(2);
  std::vector<float> x(places.back().second / 4), y(x), z(x);
  for (size_t i = 0; i < x.size(); i++) x[i] = z[i] = static_cast<float>(4 * uniform(i) - 1);
  constexpr size_t row = 4096, rows = 25;
  std::vector<float> ordinary(x.begin(), x.begin() + rows * row), jumpy(ordinary), tiny(ordinary), huge(ordinary);
  for (size_t i = 0; i < rows * row; i++) {
    if (i % row < 32) jumpy[i] = 1e3f;
    tiny[i] *= 1e-30f;
    huge[i] *= 1e36f;
  }
  std::vector<double> wide(ordinary.begin(), ordinary.end()), wider(wide), y64(wide);
  for (double& v : wider) v *= 1e200;
  [[maybe_unused]] static volatile double sink;
  static const Affine<float> affine = {0.5f, 1.5f, 0.1f};
  static const Slope<float> slope = {0.5f, 0.7f, 0.1f, 0.2f};
  float* out = y.data();
  double* out64 = y64.data();
  for (const auto& [where, bytes] : places) {
    const size_t n = bytes / 4, third = n / 3;  // the kernels move up to three arrays
    const float *p = x.data(), *q = z.data();
    std::vector<Job> jobs;
    for (const Variant& v : kVariants) {
      const KernelTable& t = v.k;
      const Kernels<float>& k = t.f32;
      for (const Way& way : v.ways) {
        jobs.push_back({"moments", way.name, v.name, where, bytes, [=, &t] { sink = way.moments(t, p, n).m2; }});
      }
      jobs.push_back({"kernel", "apply", v.name, where, third * 8, [=, &k] {
                        k.apply_runs(out, p, third, 1, &affine, {nullptr, false}, Stores::kCached, 0);
                      }});
      jobs.push_back({"kernel", "grad_sums", v.name, where, third * 8,
                      [=, &k] { sink = k.grad_sums(q, p, 0, 1, third, 0.5f, 1.5f, 0).dy; }});
      jobs.push_back({"kernel", "slope", v.name, where, third * 12,
                      [=, &k] { k.slope_runs(out, q, p, third, 1, &slope, Stores::kCached, 0); }});
      if (strcmp(where, "L2") != 0) continue;
      for (const auto& [what, data] : {std::pair<std::string, const float*>{"ordinary data", ordinary.data()},
                                       {"every first guess bad", jumpy.data()},
                                       {"values near 1e-30", tiny.data()},
                                       {"values near 1e36", huge.data()}}) {
        const float* from = data;
        jobs.push_back({"hard", "moments, " + what, v.name, where, rows * row * 4,
                        [=, &t] { sink = product(t, from, rows * row).m2; }});
        jobs.push_back({"hard", "LayerNorm forward, " + what, v.name, where, rows * row * 8,
                        [=, &k] { normalize<float>(k, layer_norm<float>(rows, row, from, out)); }});
      }
      for (const auto& [what, data] :
           {std::pair<std::string, const double*>{"ordinary data", wide.data()}, {"values near 1e200", wider.data()}}) {
        const double* from = data;
        jobs.push_back({"hard", "float64 LayerNorm forward, " + what, v.name, where, rows * row * 16,
                        [=, &t] { normalize<double>(t.f64, layer_norm<double>(rows, row, from, out64)); }});
      }
    }
    race(jobs, rounds);
  }
}

}  // namespace
}  // namespace simdnorm

int main(int argc, char** argv) {
  const bool quick = argc > 1 && strcmp(argv[1], "--quick") == 0;
  simdnorm::errors();
  simdnorm::speeds(quick ? 1 : 9, !quick);
}
