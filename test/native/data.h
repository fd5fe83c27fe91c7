// What the numeric tests share: data that are hard in some way, memory that notices a stray access, and bits.
//
// Data are made with integer and plain IEEE arithmetic only, so that every machine makes the same.
#ifndef SIMDNORM_TEST_NATIVE_DATA_H_
#define SIMDNORM_TEST_NATIVE_DATA_H_

#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <limits>
#include <vector>

namespace test {

class Random {
 public:
  explicit Random(uint64_t seed) : state_(seed) {}
  uint64_t next() {  // splitmix64
    uint64_t z = (state_ += 0x9e3779b97f4a7c15);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
    z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
    return z ^ (z >> 31);
  }
  size_t below(size_t n) { return static_cast<size_t>(next() % n); }
  double uniform() { return static_cast<double>(next() >> 11) * 0x1p-53; }
  // Mean 0, variance 1, in about bell shape.
  double normal() { return (uniform() + uniform() + uniform() - 1.5) * 2; }

 private:
  uint64_t state_;
};

enum class Kind { kOrdinary, kFar, kConstant, kZeros, kOutlier, kHuge, kTiny, kDenormal, kNan, kInfinite, kCount };
constexpr const char* kKindNames[] = {"ordinary", "far",  "constant", "zeros", "outlier",
                                      "huge",     "tiny", "denormal", "nan",   "infinite"};
inline const char* name(Kind kind) { return kKindNames[static_cast<size_t>(kind)]; }
inline bool finite(Kind kind) { return kind != Kind::kNan && kind != Kind::kInfinite; }

template <class T>
T make(Kind kind, size_t i, size_t n, Random& random) {
  const double r = random.normal();
  const double least = static_cast<double>(std::numeric_limits<T>::denorm_min());
  switch (kind) {
    case Kind::kFar:
      return static_cast<T>(10000 + r);
    case Kind::kConstant:
      return static_cast<T>(1.1);
    case Kind::kZeros:
      return i % 2 ? T(-0.0) : T(0);
    case Kind::kOutlier:  // where the first guess of a mean is taken from
      return static_cast<T>(i == 0 ? 1e6 : r);
    case Kind::kHuge:
      return static_cast<T>(1e30 * r);
    case Kind::kTiny:
      return static_cast<T>(1e-30 * r);
    case Kind::kDenormal:
      return static_cast<T>(floor(1000 * r) * least);
    case Kind::kNan:
      return i == n / 2 ? std::numeric_limits<T>::quiet_NaN() : static_cast<T>(r);
    case Kind::kInfinite:
      return i == n / 2 ? std::numeric_limits<T>::infinity() : static_cast<T>(r);
    default:
      return static_cast<T>(r);
  }
}

// n elements that end `tail` bytes before a page nobody may touch. Before them and in the tail lie guard bytes.
template <class T>
class Guarded {
 public:
  explicit Guarded(size_t n, size_t tail = 0) : n_(n), tail_(tail) {
    const size_t page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
    const size_t used = (kFront + n * sizeof(T) + tail + page - 1) / page * page;
    size_ = used + page;
    base_ =
        static_cast<unsigned char*>(mmap(nullptr, size_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    if (base_ == MAP_FAILED || mprotect(base_ + used, page, PROT_NONE) != 0) abort();
    begin_ = base_ + used - tail - n * sizeof(T);
    memset(begin_ - kFront, kByte, kFront);
    memset(begin_ + n * sizeof(T), kByte, tail);
  }
  ~Guarded() { munmap(base_, size_); }
  Guarded(const Guarded&) = delete;
  Guarded& operator=(const Guarded&) = delete;

  T* get() const { return reinterpret_cast<T*>(begin_); }
  size_t size() const { return n_; }
  T& operator[](size_t i) const { return get()[i]; }
  bool intact() const {
    for (size_t i = 0; i < kFront; i++) {
      if (begin_[i - kFront] != kByte) return false;
    }
    for (size_t i = 0; i < tail_; i++) {
      if (begin_[n_ * sizeof(T) + i] != kByte) return false;
    }
    return true;
  }

 private:
  static constexpr size_t kFront = 64;
  static constexpr unsigned char kByte = 0xa5;
  const size_t n_, tail_;
  size_t size_;
  unsigned char *base_, *begin_;
};

// What sums are checked with: 113 bits, but where a compiler has no such type.
#ifdef __SIZEOF_FLOAT128__
using Exact = __float128;
constexpr bool kQuad = true;
#else
using Exact = long double;
constexpr bool kQuad = std::numeric_limits<long double>::digits == 113;
#endif
inline Exact size(Exact v) { return v < 0 ? -v : v; }

// Results of any type as doubles, which hold every float exactly. Compared by bits, all NaNs as one.
using Values = std::vector<double>;

inline uint64_t bits(double v) {
  if (isnan(v)) return 0x7ff8000000000000;
  uint64_t b;
  memcpy(&b, &v, sizeof b);
  return b;
}

// Where two results first differ; their length where they do not.
inline size_t difference(const Values& a, const Values& b) {
  size_t i = 0;
  while (i < a.size() && i < b.size() && bits(a[i]) == bits(b[i])) i++;
  return i;
}
inline bool same(const Values& a, const Values& b) { return a.size() == b.size() && difference(a, b) == a.size(); }

// FNV-1a over the bits.
class Digest {
 public:
  void add(const Values& values) {
    for (const double v : values) {
      const uint64_t b = bits(v);
      for (int shift = 0; shift < 64; shift += 8) hash_ = (hash_ ^ (b >> shift & 0xff)) * 0x100000001b3;
    }
  }
  uint64_t get() const { return hash_; }

 private:
  uint64_t hash_ = 0xcbf29ce484222325;
};

}  // namespace test

#endif  // SIMDNORM_TEST_NATIVE_DATA_H_
