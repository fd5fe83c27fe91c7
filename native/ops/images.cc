#include "native/ops/images.h"

#include <string.h>

#include "native/ops/streams.h"
#include "native/parallel/float_environment.h"
#include "native/parallel/thread_pool.h"

namespace simdnorm {
namespace {

// Pixels of a stretch. Its streams end in a fence: that costs a tenth of the time where stretches have 4096, a third
// where they have 1024, as much as going through the caches does; 5 % from 16384 on.
constexpr size_t kFewest = 4096, kMost = 32768;

template <class T>
Pixels<T> pixels_of(const Images& im) {
  Pixels<T> p;
  p.step = im.step;
  p.channels = im.channels;
  p.apart = im.planar ? im.pixels() : kVector;
  p.each = im.planar ? 1 : im.channels;
  memset(p.lanes, Pixels<T>::kNone, sizeof p.lanes);
  memset(p.bytes, Pixels<T>::kNone, sizeof p.bytes);
  for (size_t v = 0; v < im.channels; v++) {
    for (size_t lane = 0; lane < kVector; lane++) {
      const size_t at = v * kVector + lane;
      const size_t pixel = im.planar ? lane : at / im.channels, channel = im.planar ? v : at % im.channels;
      const size_t byte = pixel * im.step + im.order[channel];
      p.lanes[v][byte / kVector][lane] = static_cast<uint8_t>(byte % kVector);
      p.bytes[v][byte / kVector][byte % kVector] = static_cast<uint8_t>(lane);
    }
  }
  return p;
}

// coefficients(c) of each channel, in its lanes.
template <class T, class F>
void set_coefficients(const Images& im, Pixels<T>* p, F coefficients) {
  for (size_t v = 0; v < im.channels; v++) {
    for (size_t lane = 0; lane < kVector; lane++) {
      const Affine<T> f = coefficients(im.planar ? v : (v * kVector + lane) % im.channels);
      p->center[v][lane] = f.center;
      p->scale[v][lane] = f.scale;
      p->shift[v][lane] = f.shift;
    }
  }
}

// Pixels without gaps between them, `runs` times an image, cut into stretches of at most `most`.
struct Stretches {
  size_t run, runs, most;

  // Several for each thread, where there are enough pixels.
  Stretches(const Images& im, const parallel::Team& team) {
    const bool gaps = im.row_stride != im.width * im.step;
    run = gaps ? im.width : im.pixels();
    runs = gaps ? im.height : 1;
    const size_t share = im.count * im.pixels() / (8 * team.size()) / kLine * kLine;
    most = at_most(run, at_least(kFewest, at_most(kMost, share)));
  }
};

// f(image, its byte, element, pixels)
template <class F>
void each_stretch(const Images& im, const Stretches& s, const parallel::Team& team, F f) {
  const size_t parts = ceil_div(s.run, s.most), grain = at_least(1, kFewest / s.most);
  team.for_each(im.count * s.runs * parts, grain, [&](size_t from, size_t to, size_t) {
    for (size_t i = from; i < to; i++) {
      const size_t first = i % parts * s.most, row = i / parts % s.runs, image = i / parts / s.runs;
      const size_t pixel = row * s.run + first;
      f(image, row * im.row_stride + first * im.step,
        image * im.pixels() * im.channels + pixel * (im.planar ? 1 : im.channels), at_most(s.most, s.run - first));
    }
  });
}

}  // namespace

template <class S>
Status from_images(const Kernels<S>& k, const Images& im, const double* mean, const double* std,
                   const uint8_t* const* x, S* y) {
  using T = Value<S>;
  if (im.elements() == 0) return Status::kOk;
  const FloatEnvironment environment;
  Pixels<T> p = pixels_of<T>(im);
  set_coefficients(im, &p, [&](size_t c) {
    const double center = static_cast<double>(static_cast<T>(mean[c]));
    return folded({center, mean[c] - center, 0, 1 / std[c], 1}, T(1), T(0));
  });
  const size_t bytes = im.elements() * sizeof(S) + im.count * im.pixels() * im.step;
  const parallel::Team team(bytes < kAloneBytes);
  const Stretches s(im, team);
  const Stores stores = s.most < kFewest ? Stores::kCached : stores_for(bytes, s.most * sizeof(S), team.size(), false);
  each_stretch(im, s, team, [&](size_t image, size_t from, size_t to, size_t n) {
    k.from_pixels(y + to, x[image] + from, n, p, stores);
  });
  return Status::kOk;
}

template <class S>
Status to_images(const Kernels<S>& k, const Images& im, const double* mean, const double* std, const S* y,
                 uint8_t* const* x) {
  using T = Value<S>;
  if (im.elements() == 0) return Status::kOk;
  const FloatEnvironment environment;
  Pixels<T> p = pixels_of<T>(im);
  set_coefficients(im, &p, [&](size_t c) { return Affine<T>{T(0), static_cast<T>(std[c]), static_cast<T>(mean[c])}; });
  const parallel::Team team(im.elements() * sizeof(S) < kAloneBytes);
  each_stretch(im, Stretches(im, team), team,
               [&](size_t image, size_t to, size_t from, size_t n) { k.to_pixels(x[image] + to, y + from, n, p); });
  return Status::kOk;
}

#define SIMDNORM_INSTANTIATE(S)                                                                                      \
  template Status from_images(const Kernels<S>&, const Images&, const double*, const double*, const uint8_t* const*, \
                              S*);                                                                                   \
  template Status to_images(const Kernels<S>&, const Images&, const double*, const double*, const S*, uint8_t* const*);
SIMDNORM_INSTANTIATE(float)
SIMDNORM_INSTANTIATE(double)
SIMDNORM_INSTANTIATE(Float16)
SIMDNORM_INSTANTIATE(BFloat16)

}  // namespace simdnorm
