#include "native/ops/local_response.h"

#include <string.h>

#include "native/parallel/float_environment.h"

namespace simdnorm {
namespace {

// Up to this many terms are added for every element anew; more are taken from sums of blocks, which cost the same
// whatever the window.
constexpr size_t kDirect = 8;
// Squares a tile holds: 32 KiB of them, but at least one vector of columns.
constexpr size_t kTile = 4096;
constexpr size_t kVector = 16;

// Terms of a tile's windows, in double: `rows` x `pitch`. For windows that are added up directly, there are rows of
// zeros before and behind, so that every window has all its terms.
class Terms {
 public:
  Terms(const ChannelWindow& w, size_t pitch, bool mirrored) : rows_(w.channels), pitch_(pitch) {
    const size_t most = w.channels - 1;
    before_ = at_most(most, mirrored ? w.after : w.before);
    after_ = at_most(most, mirrored ? w.before : w.after);
    direct_ = before_ + after_ < kDirect;
  }
  size_t size() const { return (direct_ ? rows_ + before_ + after_ : rows_) * pitch_; }
  bool direct() const { return direct_; }
  // Terms of one element's window, to a kernel; they lie pitch apart.
  size_t window() const { return direct_ ? before_ + 1 + after_ : 1; }

  // Where the terms of the first row are to be written, and, after sum(), where its window begins.
  double* first(double* memory) const { return direct_ ? memory + before_ * pitch_ : memory; }
  void clear(double* memory) const {
    if (!direct_) return;
    memset(memory, 0, before_ * pitch_ * sizeof(double));
    memset(memory + (before_ + rows_) * pitch_, 0, after_ * pitch_ * sizeof(double));
  }
  template <class S>
  void sum(const Kernels<S>& k, double* memory, double* rest, size_t cols) const {
    if (!direct_) k.window_sums(memory, rest, pitch_, rows_, cols, before_, after_);
  }

 private:
  size_t rows_, pitch_, before_, after_;
  bool direct_;
};

// The work: [channels] x [width] tiles, one after the other or side by side in the threads.
class Tiles {
 public:
  explicit Tiles(const ChannelWindow& w) : w_(w) {
    const size_t wanted = at_least(kVector, kTile / w.channels / kVector * kVector);
    width_ = at_most(w.inner, wanted);
    per_outer_ = ceil_div(w.inner, width_);
  }
  size_t width() const { return width_; }
  size_t count() const { return w_.outer * per_outer_; }

  struct Tile {
    size_t begin, cols;
  };
  Tile operator[](size_t i) const {
    const size_t column = i % per_outer_ * width_;
    return {i / per_outer_ * w_.channels * w_.inner + column, at_most(width_, w_.inner - column)};
  }

  // f(offset in the tensor, offset in the terms, n) for the stretches of a tile: its rows, or all of it where it has no
  // gaps.
  template <class F>
  void each_stretch(const Tile& tile, F f) const {
    if (tile.cols == w_.inner) {
      f(tile.begin, size_t(0), w_.channels * w_.inner);
      return;
    }
    for (size_t c = 0; c < w_.channels; c++) f(tile.begin + c * w_.inner, c * width_, tile.cols);
  }

  // f(tile, memory) for every tile, with `doubles` of working memory for each thread.
  template <class S, class F>
  Status run(size_t doubles, F f) const {
    const size_t bytes = w_.elements() * 2 * sizeof(S);
    const parallel::Team team(bytes < kAloneBytes);
    const Scratch<double> memory(doubles * team.size());
    if (!memory.ok()) return Status::kOutOfMemory;
    team.for_each(count(), team.grain(count(), bytes / count()), [&](size_t from, size_t to, size_t worker) {
      for (size_t i = from; i < to; i++) f((*this)[i], memory.get() + doubles * worker);
    });
    return Status::kOk;
  }

 private:
  const ChannelWindow& w_;
  size_t width_, per_outer_;
};

// What is raised to 0 is 1, and has no gradient, whatever it is.
template <class S>
Status copy(const ChannelWindow& w, const S* from, S* to) {
  if (to != from) memcpy(to, from, w.elements() * sizeof(S));
  return Status::kOk;
}

}  // namespace

template <class S>
Status local_response(const Kernels<S>& k, const ChannelWindow& w, const S* x, S* y) {
  if (w.elements() == 0) return Status::kOk;
  if (w.f.beta == 0) return copy(w, x, y);
  const FloatEnvironment environment;
  const Tiles tiles(w);
  const size_t pitch = tiles.width();
  const Terms squares(w, pitch, false);
  const size_t rest = squares.direct() ? 0 : squares.size();
  return tiles.run<S>(squares.size() + rest, [&](const Tiles::Tile& tile, double* memory) {
    double* const first = squares.first(memory);
    squares.clear(memory);
    tiles.each_stretch(tile, [&](size_t at, size_t in, size_t n) { k.squares(first + in, x + at, n); });
    squares.sum(k, memory, memory + squares.size(), tile.cols);
    tiles.each_stretch(tile, [&](size_t at, size_t in, size_t n) {
      k.respond(y + at, x + at, memory + in, pitch, squares.window(), n, w.f);
    });
  });
}

template <class S>
Status local_response_backward(const Kernels<S>& k, const ChannelWindow& w, const S* dy, const S* x, S* dx) {
  if (w.elements() == 0) return Status::kOk;
  if (w.f.beta == 0) return copy(w, dy, dx);
  const FloatEnvironment environment;
  const Tiles tiles(w);
  const size_t pitch = tiles.width();
  const Terms squares(w, pitch, false), ratios(w, pitch, true);
  const size_t size = squares.size();  // of both
  const double factor = 2 * w.f.scale * w.f.beta;
  return tiles.run<S>(3 * size, [&](const Tiles::Tile& tile, double* memory) {
    double *const ratio = memory + size, *const direct = ratio + size;
    squares.clear(memory);
    ratios.clear(ratio);
    tiles.each_stretch(tile, [&](size_t at, size_t in, size_t n) { k.squares(squares.first(memory) + in, x + at, n); });
    squares.sum(k, memory, direct, tile.cols);
    tiles.each_stretch(tile, [&](size_t at, size_t in, size_t n) {
      k.respond_back(direct + in, ratios.first(ratio) + in, dy + at, x + at, memory + in, pitch, squares.window(), n,
                     w.f);
    });
    ratios.sum(k, ratio, memory, tile.cols);
    tiles.each_stretch(tile, [&](size_t at, size_t in, size_t n) {
      k.respond_slope(dx + at, x + at, direct + in, ratio + in, pitch, ratios.window(), n, factor);
    });
  });
}

#define SIMDNORM_INSTANTIATE(S)                                                          \
  template Status local_response(const Kernels<S>&, const ChannelWindow&, const S*, S*); \
  template Status local_response_backward(const Kernels<S>&, const ChannelWindow&, const S*, const S*, S*);
SIMDNORM_INSTANTIATE(float)
SIMDNORM_INSTANTIATE(double)
SIMDNORM_INSTANTIATE(Float16)
SIMDNORM_INSTANTIATE(BFloat16)

}  // namespace simdnorm
