// The peers, written over the product's Vec and compiled with its flags, so that width and loads are the same and only
// the arithmetic differs. Textbook forms on purpose: none tests whether its answer can be trusted.
//   SIMDNORM_ISA, VEC_HEADER: which instruction set, under which name
#include VEC_HEADER
#include "bench/kernels/peers.h"

namespace simdnorm {
namespace SIMDNORM_ISA {
namespace {

constexpr size_t kStep = 4 * kLanes;  // four chains
constexpr size_t kBlock = 4096;

// Chan's merge with one double for each number.
struct Merged {
  double n = 0, mean = 0, m2 = 0;
  void add(double count, double other, double squares) {
    const double all = n + count, delta = other - mean;
    mean += delta * (count / all);
    m2 += squares + delta * delta * (n * count / all);
    n = all;
  }
  Moments moments() const { return {n, mean, 0, m2, 0}; }
};

// Welford 1962 in every lane of four chains, with a table of reciprocals; then Chan over the lanes.
Moments welford_lanes(const KernelTable&, const float* x, size_t n) {
  static float reciprocal[kBlock + 1];
  for (size_t i = 1; reciprocal[kBlock] == 0 && i <= kBlock; i++) reciprocal[i] = 1.0f / static_cast<float>(i);
  Merged all;
  while (n >= kStep) {
    Vec<float> mean[4], m2[4];
    size_t t = 0;
    for (; t < kBlock && n >= kStep; x += kStep, n -= kStep) {
      const Vec<float> r(reciprocal[++t]);
      for (size_t c = 0; c < 4; c++) {
        const Vec<float> v = Vec<float>::load(x + c * kLanes), d = v - mean[c];
        mean[c] = mean[c] + d * r;
        m2[c] = m2[c] + d * (v - mean[c]);
      }
    }
    for (size_t c = 0; c < 4; c++) {
      float means[kLanes], squares[kLanes];
      mean[c].store(means);
      m2[c].store(squares);
      for (size_t i = 0; i < kLanes; i++) all.add(static_cast<double>(t), means[i], squares[i]);
    }
  }
  for (; n > 0; n--) all.add(1, *x++, 0);
  return all.moments();
}

inline Vec<float> cast(Vec<float> v, float) { return v; }
inline Vec<double> cast(Vec<float> v, double) { return widen(v); }

// From the sums of d and d * d for d = x - shift, in A, in four chains.
template <class A>
Moments shifted(const float* x, size_t n, double shift) {
  Vec<A> a[4], b[4];
  const Vec<A> center(static_cast<A>(shift));
  size_t i = 0;
  for (; i + kStep <= n; i += kStep) {
    for (size_t c = 0; c < 4; c++) {
      const Vec<A> d = cast(Vec<float>::load(x + i + c * kLanes), A()) - center;
      a[c] = a[c] + d;
      b[c] = b[c] + d * d;
    }
  }
  double s = sum(widen((a[0] + a[1]) + (a[2] + a[3]))), q = sum(widen((b[0] + b[1]) + (b[2] + b[3])));
  for (; i < n; i++) {
    const double d = static_cast<double>(x[i]) - shift;
    s += d;
    q += d * d;
  }
  const double count = static_cast<double>(n);
  return {count, shift + s / count, 0, q - s * (s / count), 0};
}

template <class A>
Moments sums(const KernelTable&, const float* x, size_t n) {
  return shifted<A>(x, n, 0);
}
Moments two_passes(const KernelTable&, const float* x, size_t n) {
  return shifted<double>(x, n, shifted<double>(x, n, x[0]).mean);
}

template <class Block>
Moments by_blocks(const float* x, size_t n, Block block) {
  Merged all;
  for (size_t i = 0; i < n; i += kBlock) {
    const Moments m = block(x + i, n - i < kBlock ? n - i : kBlock);
    all.add(m.count, m.mean, m.m2);
  }
  return all.moments();
}
// A shift that is the mean of the block's first `used` elements, and nothing that makes it safe: four chains never
// emptied, no test, one double a number.
template <size_t used>
Moments bare(const KernelTable&, const float* x, size_t n) {
  return by_blocks(x, n, [](const float* p, size_t k) {
    return shifted<float>(p, k, static_cast<float>(shifted<float>(p, k < used ? k : used, p[0]).mean));
  });
}
Moments one_double(const KernelTable& k, const float* x, size_t n) {
  return by_blocks(x, n, [&](const float* p, size_t count) { return k.f32.moments(p, 0, 1, count, About::kMean, 0); });
}

constexpr Peers kAll = {{
    {"Welford per lane", welford_lanes},
    {"two passes a block, float", bare<kBlock>},
    {"two passes in all, double", two_passes},
    {"sum and squares, double", sums<double>},
    {"sum and squares, float", sums<float>},
    {"shifted, bare", bare<kStep>},
    {"product, one double a number", one_double},
}};

}  // namespace
}  // namespace SIMDNORM_ISA

#define JOIN_(a, b) a##b
#define JOIN(a, b) JOIN_(a, b)
extern const Peers JOIN(peers_, SIMDNORM_ISA);
const Peers JOIN(peers_, SIMDNORM_ISA) = SIMDNORM_ISA::kAll;

}  // namespace simdnorm
