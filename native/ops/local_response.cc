#include "native/ops/local_response.h"

#include <string.h>

#include "native/parallel/float_environment.h"

namespace simdnorm {
namespace {

// Up to this many terms are added for every element anew; more are taken from sums of blocks, which cost the same
// whatever the window.
constexpr size_t kDirect = 8;
// Terms a tile holds: 384 KiB of them, for L2, but at least one vector of columns. Where it may be shorter than fits,
// to have kMany tiles for the threads, its rows are still a kilobyte of floats.
constexpr size_t kTile = 49152;
// Windows of many terms go over all of a tile three times: 32 KiB, for L1.
constexpr size_t kWideTile = 4096;
constexpr size_t kShort = 256, kMany = 32;

// Whether a window's terms are added for every element anew.
bool direct(const ChannelWindow& w) {
  const size_t most = w.channels - 1;
  return at_most(most, w.before) + at_most(most, w.after) < kDirect;
}

// Terms of a tile's windows, in double: `rows` x `pitch`. For windows that are added up directly, there are rows of
// zeros before and behind, so that every window has all its terms. Nothing reads a row of them once its window is done,
// and what replaces it begins there.
class Terms {
 public:
  Terms(const ChannelWindow& w, size_t pitch, bool mirrored)
      : rows_(w.channels), pitch_(pitch), direct_(simdnorm::direct(w)) {
    const size_t most = w.channels - 1;
    before_ = at_most(most, mirrored ? w.after : w.before);
    after_ = at_most(most, mirrored ? w.before : w.after);
  }
  size_t size() const { return (direct_ ? rows_ + before_ + after_ : rows_) * pitch_; }
  bool direct() const { return direct_; }
  // Rows that have to be there, beyond a row, before its window is.
  size_t ahead() const { return direct_ ? after_ : rows_; }
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

// What is done with each row of a tile, `lag` rows behind the first stage: f(offset in the tensor, offset in the terms,
// n).
template <class F>
struct Stage {
  size_t lag;
  F f;
};
template <class F>
Stage(size_t, F) -> Stage<F>;

// The work: [channels] x [width] tiles, one after the other or side by side in the threads.
class Tiles {
 public:
  Tiles(const ChannelWindow& w, size_t arrays) : w_(w) {
    const size_t fitting = (direct(w) ? kTile / arrays : kWideTile) / w.channels;
    const size_t shared = at_least(kShort, w.outer * w.inner / kMany);
    const size_t wanted = at_least(kVector, at_most(fitting, shared) / kVector * kVector);
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

  // The stages side by side, row after row, so that a row is in L1 from the first to the last; or one after the other
  // where a tile has no gaps and is one row to them.
  template <class... F>
  void each_row(const Tile& tile, Stage<F>... stages) const {
    const bool one = !gaps(tile);
    const size_t rows = one ? 1 : w_.channels, n = one ? w_.channels * w_.inner : tile.cols;
    const auto run = [&](size_t step, auto stage) {
      const size_t row = one ? step : step - stage.lag;
      if (row < rows) stage.f(tile.begin + row * w_.inner, row * width_, n);
    };
    size_t steps = rows;
    if (!one) ((steps = at_least(steps, rows + stages.lag)), ...);
    for (size_t step = 0; step < steps; step++) (run(step, stages), ...);
  }

  // Asks for the row after the one at `at`: rows are too short for the CPU to make a stream of them.
  template <class S>
  void expect(const Tile& tile, const S* data, size_t at) const {
    if (!gaps(tile) || at + w_.inner >= w_.elements()) return;
    const S* const row = data + at + w_.inner;
    for (size_t i = 0; i < tile.cols; i += kLine / sizeof(S)) __builtin_prefetch(row + i);
  }

  // f(tile, memory) for every tile, with `doubles` of working memory for each thread.
  template <class S, class F>
  Status run(size_t doubles, F f) const {
    constexpr size_t line = kLine / sizeof(double);
    const size_t bytes = w_.elements() * 2 * sizeof(S);
    const size_t each = ceil_div(doubles, line) * line;
    const parallel::Team team(bytes < kAloneBytes);
    const Scratch<double> memory(each * team.size());
    if (!memory.ok()) return Status::kOutOfMemory;
    team.for_each(count(), team.grain(count(), bytes / count()), [&](size_t from, size_t to, size_t worker) {
      for (size_t i = from; i < to; i++) f((*this)[i], memory.get() + each * worker);
    });
    return Status::kOk;
  }

 private:
  bool gaps(const Tile& tile) const { return tile.cols < w_.inner; }

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
  const Tiles tiles(w, 1);
  const size_t pitch = tiles.width();
  const Terms squares(w, pitch, false);
  const size_t size = squares.size(), rest = squares.direct() ? 0 : size;
  return tiles.run<S>(size + rest, [&](const Tiles::Tile& tile, double* memory) {
    squares.clear(memory);
    const auto square = [&](size_t at, size_t in, size_t n) {
      tiles.expect(tile, x, at);
      k.squares(squares.first(memory) + in, x + at, n);
    };
    const auto respond = [&](size_t at, size_t in, size_t n) {
      tiles.expect(tile, y, at);
      if (in == 0) squares.sum(k, memory, memory + size, tile.cols);
      k.respond(y + at, x + at, memory + in, pitch, squares.window(), n, w.f);
    };
    tiles.each_row(tile, Stage{0, square}, Stage{squares.ahead(), respond});
  });
}

template <class S>
Status local_response_backward(const Kernels<S>& k, const ChannelWindow& w, const S* dy, const S* x, S* dx) {
  if (w.elements() == 0) return Status::kOk;
  if (w.f.beta == 0) return copy(w, dy, dx);
  const FloatEnvironment environment;
  const Tiles tiles(w, 2);
  const size_t pitch = tiles.width();
  const Terms squares(w, pitch, false), ratios(w, pitch, true);
  const size_t size = squares.size();  // of both
  const size_t rest = squares.direct() ? 0 : size;
  const double factor = 2 * w.f.scale * w.f.beta;
  return tiles.run<S>(2 * size + rest, [&](const Tiles::Tile& tile, double* memory) {
    double *const ratio = memory + size, *const direct = memory;
    squares.clear(memory);
    ratios.clear(ratio);
    const auto square = [&](size_t at, size_t in, size_t n) {
      tiles.expect(tile, x, at);
      k.squares(squares.first(memory) + in, x + at, n);
    };
    const auto back = [&](size_t at, size_t in, size_t n) {
      tiles.expect(tile, dy, at);
      if (in == 0) squares.sum(k, memory, ratio + size, tile.cols);
      k.respond_back(direct + in, ratios.first(ratio) + in, dy + at, x + at, memory + in, pitch, squares.window(), n,
                     w.f);
    };
    const auto slope = [&](size_t at, size_t in, size_t n) {
      tiles.expect(tile, dx, at);
      if (in == 0) ratios.sum(k, ratio, ratio + size, tile.cols);
      k.respond_slope(dx + at, x + at, direct + in, ratio + in, pitch, ratios.window(), n, factor);
    };
    const size_t lag = squares.ahead();
    tiles.each_row(tile, Stage{0, square}, Stage{lag, back}, Stage{lag + ratios.ahead(), slope});
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
