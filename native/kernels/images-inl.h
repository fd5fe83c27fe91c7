// Pixels of images to those of tensors, and back. See kernels-inl.h.
#include <stddef.h>
#include <stdint.h>

#include "native/kernels/kernels.h"

namespace simdnorm {
namespace SIMDNORM_ISA {
namespace {

// body(step, channels) with numbers that the compiler knows, where they are usual.
template <size_t n>
struct Known {
  constexpr operator size_t() const { return n; }
};
template <class Body>
inline void with_known(size_t step, size_t channels, Body body) {
  if (step == 3 && channels == 3) return body(Known<3>(), Known<3>());
  if (step == 4 && channels == 3) return body(Known<4>(), Known<3>());
  if (step == 4 && channels == 4) return body(Known<4>(), Known<4>());
  if (step == 1) return body(Known<1>(), Known<1>());
  body(step, channels);
}

inline Vec<float> numbers_of(Bytes b, float) { return of_bytes(b); }
inline Vec<double> numbers_of(Bytes b, double) { return widen(of_bytes(b)); }
inline Bytes bytes_of(Vec<float> v) { return to_bytes(v); }
inline Bytes bytes_of(Vec<double> v) { return to_bytes(narrow(v)); }

// How many lanes of vector v are of the first n < 16 pixels.
template <class T>
inline size_t lanes_of(const Pixels<T>& p, size_t n, size_t v) {
  if (p.each == 1) return n;
  const size_t all = n * p.channels, before = v * kLanes;
  return all > before ? least(kLanes, all - before) : 0;
}

// Pixels until every vector begins a line, or 16 where that never is so.
template <class S>
inline size_t pixels_to_line(const S* y, const Pixels<Value<S>>& p) {
  if (p.apart * sizeof(S) % kLine != 0) return kLanes;
  size_t n = 0;
  while (n < kLanes && to_line(y + n * p.each) > 0) n++;
  return n;
}

// What Pixels says, out of memory that a store might change: in registers, where there are enough of them.
template <class T, class Step, class Channels>
struct Standardizer {
  const Step step;
  const Channels channels;
  Bytes lanes[4][4];
  Vec<T> center[4], scale[4], shift[4];

  Standardizer(const Pixels<T>& p, Step step, Channels channels) : step(step), channels(channels) {
    for (size_t v = 0; v < channels; v++) {
      for (size_t c = 0; c < step; c++) lanes[v][c] = Bytes::load(p.lanes[v][c]);
      center[v] = load(p.center[v], All{});
      scale[v] = load(p.scale[v], All{});
      shift[v] = load(p.shift[v], All{});
    }
  }
  // f(v, vector v) of the sixteen pixels at x.
  template <class F>
  void operator()(const uint8_t* x, F f) const {
    Bytes pixels[4];
    for (size_t c = 0; c < step; c++) pixels[c] = Bytes::load(x + c * kLanes);
    for (size_t v = 0; v < channels; v++) {
      Bytes b = pixels[0].pick(lanes[v][0]);
      for (size_t c = 1; c < step; c++) b = b | pixels[c].pick(lanes[v][c]);
      f(v, (numbers_of(b, T()) - center[v]) * scale[v] + shift[v]);
    }
  }
};

template <class S>
SIMDNORM_KERNEL void from_pixels(S* y, const uint8_t* x, size_t n, const Pixels<Value<S>>& p, Stores stores) {
  using T = Value<S>;
  with_known(p.step, p.channels, [&](auto step, auto channels) {
    using Standard = Standardizer<T, decltype(step), decltype(channels)>;
    const size_t each = p.each, apart = p.apart;
    const auto some = [&](size_t i, size_t count) {
      uint8_t pixels[4 * kLanes] = {};
      for (size_t k = 0; k < count * step; k++) pixels[k] = x[i * step + k];
      Standard(p, step, channels)(pixels, [&](size_t v, Vec<T> value) {
        const size_t lanes = lanes_of(p, count, v);
        if (lanes > 0) store(y + i * each + v * apart, value, first_lanes(lanes));
      });
    };
    const size_t head = stores == Stores::kStreamed ? pixels_to_line(y, p) : kLanes;
    const bool streamed = head < kLanes && head < n;
    size_t i = streamed ? head : 0;
    if (i > 0) some(0, i);
    const Standard standard(p, step, channels);
    for (; i + kLanes <= n; i += kLanes) {
      S* const to = y + i * each;
      standard(x + i * step, [&](size_t v, Vec<T> value) {
        if (streamed) {
          value.stream(to + v * apart);
        } else {
          value.store(to + v * apart);
        }
      });
    }
    if (i < n) some(i, n - i);
  });
  after(stores);
}

template <class S>
SIMDNORM_KERNEL void to_pixels(uint8_t* x, const S* y, size_t n, const Pixels<Value<S>>& p) {
  using T = Value<S>;
  with_known(p.step, p.channels, [&](auto step, auto channels) {
    // `lanes(v)` of vector v are there.
    const auto pixels = [&](uint8_t* to, const S* from, auto lanes) {
      Bytes vectors[4];
      for (size_t v = 0; v < channels; v++) {
        const Vec<T> scale = load(p.scale[v], All{}), shift = load(p.shift[v], All{});
        vectors[v] = bytes_of(load(from + v * p.apart, lanes(v)) * scale + shift);
      }
      for (size_t c = 0; c < step; c++) {
        Bytes b = vectors[0].pick(Bytes::load(p.bytes[0][c]));
        for (size_t v = 1; v < channels; v++) b = b | vectors[v].pick(Bytes::load(p.bytes[v][c]));
        b.store(to + c * kLanes);
      }
    };
    const size_t each = p.each;
    size_t i = 0;
    for (; i + kLanes <= n; i += kLanes) pixels(x + i * step, y + i * each, [](size_t) { return All{}; });
    if (i == n) return;
    uint8_t last[4 * kLanes];
    pixels(last, y + i * each, [&](size_t v) { return first_lanes(lanes_of(p, n - i, v)); });
    for (size_t k = 0; k < (n - i) * step; k++) x[i * step + k] = last[k];
  });
}

}  // namespace
}  // namespace SIMDNORM_ISA
}  // namespace simdnorm
