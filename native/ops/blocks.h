// How a reduction is cut: by the shape alone, never by the number of threads, the cache or the ISA.
#ifndef SIMDNORM_OPS_BLOCKS_H_
#define SIMDNORM_OPS_BLOCKS_H_

#include <stddef.h>
#include <stdint.h>

#include <new>
#include <type_traits>

#include "native/dispatch/cpu.h"
#include "native/kernels/kernels.h"

namespace simdnorm {

constexpr size_t kUnit = 16;            // blocks reduced one after the other by one thread
constexpr size_t kAloneBytes = 131072;  // less traffic than this is not worth waking a helper

inline size_t ceil_div(size_t a, size_t b) { return (a + b - 1) / b; }
inline size_t at_least(size_t a, size_t b) { return a > b ? a : b; }
inline size_t at_most(size_t a, size_t b) { return a < b ? a : b; }

// `pieces` stretches of n elements, `stride` apart, as blocks of at most kBlock elements: parts of a long stretch, all
// but the last alike, or several short stretches together.
class Blocks {
 public:
  struct Block {
    size_t offset, pieces, n;
  };

  // `bytes` are all that the op has to do with.
  Blocks(size_t pieces, size_t n, size_t stride, size_t bytes)
      : pieces_(pieces), n_(n), stride_(stride), far_(bytes > cpu::caches().l2) {
    if (pieces == 0 || n == 0) return;
    if (n >= kBlock) {
      per_piece_ = ceil_div(n, kBlock);
      length_ = at_most(n, ceil_div(ceil_div(n, per_piece_), 32) * 32);
      per_piece_ = ceil_div(n, length_);
      count_ = pieces * per_piece_;
    } else {
      together_ = kBlock / n;
      count_ = ceil_div(pieces, together_);
    }
  }

  size_t pieces() const { return pieces_; }
  size_t length() const { return n_; }
  size_t stride() const { return stride_; }
  // What to fetch meanwhile: an element's place in the next piece, or further on in the only one, but for data in L2
  // (where it costs a quarter of the rate) and pieces of one block.
  size_t ahead() const { return pieces_ > 1 ? stride_ : far_ && n_ > kBlock ? kAhead : 0; }
  size_t count() const { return count_; }
  size_t units() const { return ceil_div(count_, kUnit); }
  Block operator[](size_t i) const {
    if (together_ == 0) {
      const size_t start = i % per_piece_ * length_;
      return {i / per_piece_ * stride_ + start, 1, at_most(length_, n_ - start)};
    }
    const size_t first = i * together_;
    return {first * stride_, at_most(together_, pieces_ - first), n_};
  }

  // f(block) for the blocks of one unit, in order.
  template <class F>
  void each(size_t unit, F f) const {
    const size_t end = at_most(count_, (unit + 1) * kUnit);
    for (size_t i = unit * kUnit; i < end; i++) f((*this)[i]);
  }

 private:
  size_t pieces_, n_, stride_;
  bool far_;
  size_t per_piece_ = 0, length_ = 0, together_ = 0, count_ = 0;
};

// Working memory from a line's begin on, that says so when there is none. Taken before an op writes its first result.
template <class T>
class Scratch {
 public:
  explicit Scratch(size_t n)
      : data_(n > 0 && n <= kMostBytes / sizeof(T)
                  ? static_cast<T*>(::operator new(n * sizeof(T), kToLine, std::nothrow))
                  : nullptr),
        ok_(n == 0 || data_) {
    static_assert(std::is_trivially_copyable<T>::value, "is not constructed");
  }
  ~Scratch() { ::operator delete(data_, kToLine); }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;
  bool ok() const { return ok_; }
  T* get() const { return data_; }

 private:
  static constexpr std::align_val_t kToLine{kLine};
  // Asked for more, the allocator of WebAssembly traps.
  static constexpr size_t kMostBytes = SIZE_MAX / 4;
  T* data_;
  bool ok_;
};

}  // namespace simdnorm

#endif  // SIMDNORM_OPS_BLOCKS_H_
