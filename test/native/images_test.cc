// Images to tensors and back, for every instruction set, layout and type: near the formula in double, the same bits
// everywhere and for every number of threads, and not one byte touched beyond an array.
//
//   images_test --digest    one hash for each instruction set over all outputs, to compare machines by
#include "native/ops/images.h"

#include "native/dispatch/cpu.h"
#include "native/dispatch/dispatch.h"
#include "native/parallel/thread_pool.h"
#include "test/native/check.h"
#include "test/native/data.h"

using namespace simdnorm;
using test::Guarded;
using test::Values;

namespace {

const double kMean[] = {123.675, 116.28, 103.53, 0}, kStd[] = {58.395, 57.12, 57.375, 1};

struct Size {
  size_t count, height, width, gap;  // bytes behind a row, and rows behind an image
};
const Size kSizes[] = {{1, 1, 1, 0},   {2, 3, 5, 0},    {1, 4, 16, 0},   {3, 7, 33, 0},
                       {2, 5, 37, 11}, {2, 97, 101, 0}, {1, 300, 320, 4}};

Images images_of(const Size& size, size_t step, size_t channels, bool reversed, bool planar) {
  Images im = {size.count, size.height, size.width, step, size.width * step + size.gap, channels, {0, 0, 0, 0}, planar};
  for (size_t c = 0; c < channels; c++) im.order[c] = static_cast<uint8_t>(reversed ? channels - 1 - c : c);
  return im;
}
// A row more than an image has, where there are gaps.
size_t image_stride(const Images& im) { return im.row_stride * (im.height + (im.row_stride > im.width * im.step)); }
// Bytes from the first to the last pixel.
size_t length(const Images& im) {
  return (im.count - 1) * image_stride(im) + (im.height - 1) * im.row_stride + im.width * im.step;
}
size_t byte_at(const Images& im, size_t n, size_t pixel, size_t c) {
  return n * image_stride(im) + pixel / im.width * im.row_stride + pixel % im.width * im.step + im.order[c];
}
size_t element_at(const Images& im, size_t n, size_t pixel, size_t c) {
  const size_t all = im.pixels();
  return im.planar ? (n * im.channels + c) * all + pixel : (n * all + pixel) * im.channels + c;
}

std::vector<uint8_t*> starts(const Images& im, uint8_t* x) {
  std::vector<uint8_t*> all;
  for (size_t n = 0; n < im.count; n++) all.push_back(x + n * image_stride(im));
  return all;
}

// f(images, label) for every form.
template <class F>
void each_form(F f) {
  for (const Size& size : kSizes) {
    for (size_t step = 1; step <= 4; step++) {
      for (size_t channels = 1; channels <= step; channels++) {
        for (const bool planar : {true, false}) {
          for (const bool reversed : {false, true}) {
            char label[100];
            snprintf(label, sizeof label, "%zux%zux%zu+%zu, %zu of %zu%s, %s", size.count, size.height, size.width,
                     size.gap, channels, step, reversed ? " reversed" : "", planar ? "planes" : "pixels");
            f(images_of(size, step, channels, reversed, planar), label);
          }
        }
      }
    }
  }
}

template <class S>
Values forward(const Kernels<S>& k, const Images& im, const Guarded<uint8_t>& x, size_t tail) {
  const Guarded<S> y(im.elements(), tail);
  CHECK(from_images(k, im, kMean, kStd, starts(im, x.get()).data(), y.get()) == Status::kOk && y.intact());
  Values out;
  for (size_t i = 0; i < y.size(); i++) out.push_back(wide(y[i]));
  return out;
}
template <class S>
std::vector<uint8_t> back(const Kernels<S>& k, const Images& im, const Values& y) {
  const Guarded<S> from(y.size());
  for (size_t i = 0; i < y.size(); i++) from[i] = stored<S>(static_cast<Value<S>>(y[i]));
  const Guarded<uint8_t> x(length(im));
  memset(x.get(), 77, x.size());
  CHECK(to_images(k, im, kMean, kStd, from.get(), starts(im, x.get()).data()) == Status::kOk && x.intact());
  return std::vector<uint8_t>(x.get(), x.get() + x.size());
}

Guarded<uint8_t>& fill(Guarded<uint8_t>& x) {
  test::Random random(x.size());
  for (size_t i = 0; i < x.size(); i++) x[i] = static_cast<uint8_t>(random.below(256));
  return x;
}

template <class S>
void check(const char* type) {
  each_form([&](const Images& im, const char* label) {
    Guarded<uint8_t> x(length(im));
    fill(x);
    const Kernels<S>& portable = dispatch::table(dispatch::count() - 1).of(S());
    parallel::set_threads(1);
    const Values y = forward<S>(portable, im, x, 8);
    const std::vector<uint8_t> again = back<S>(portable, im, y);
    // Three roundings of what is added up, and the one to 16 bits.
    const double unit = sizeof(S) == 8 ? 0x1p-53 : 0x1p-24, own = sizeof(S) > 2                     ? 0
                                                                  : std::is_same<S, Float16>::value ? 0x1p-11
                                                                                                    : 0x1p-8;
    double worst = 0;
    bool restored = true, gaps = true;
    for (size_t n = 0; n < im.count; n++) {
      for (size_t pixel = 0; pixel < im.pixels(); pixel++) {
        for (size_t c = 0; c < im.channels; c++) {
          const size_t at = byte_at(im, n, pixel, c);
          const double exact = (x[at] - kMean[c]) / kStd[c], got = y[element_at(im, n, pixel, c)];
          worst =
              fmax(worst, fabs(got - exact) / ((4 * unit + own) * (fabs(exact) + kMean[c] / kStd[c] * unit) + 1e-300));
          restored = restored && (sizeof(S) == 2 || again[at] == x[at]);
        }
      }
    }
    for (size_t i = 0; im.channels == im.step && i < again.size(); i++) {
      const bool gap = i % image_stride(im) / im.row_stride >= im.height ||
                       i % image_stride(im) % im.row_stride >= im.width * im.step;
      gaps = gaps && (!gap || again[i] == 77);
    }
    CHECK(worst <= 1, "%s %s: %g", type, label, worst);
    CHECK(restored, "%s %s", type, label);
    CHECK(gaps, "%s %s: written between rows", type, label);
    for (size_t isa = 0; isa < dispatch::count(); isa++) {
      if (!dispatch::supported(isa)) continue;
      const Kernels<S>& k = dispatch::table(isa).of(S());
      for (const size_t threads : {1, 3}) {
        parallel::set_threads(threads);
        for (const size_t tail : {0, 8, 24}) {
          CHECK(test::same(forward<S>(k, im, x, tail), y), "%s %s, %s", type, label, dispatch::table(isa).name);
        }
        CHECK(back<S>(k, im, y) == again, "%s %s, %s back", type, label, dispatch::table(isa).name);
      }
    }
  });
}

// Halves to even, both ends, and what is no number.
template <class S>
void rounding() {
  Images im = images_of({1, 1, 40, 0}, 1, 1, false, true);
  const double mean[] = {0}, std[] = {1};
  const double values[] = {0.5,  1.5,  2.5, 253.5, 254.5, 255,      255.5,     256,
                           1e30, -0.5, -1,  -1e30, NAN,   INFINITY, -INFINITY, 0.75};
  const uint8_t expected[] = {0, 2, 2, 254, 254, 255, 255, 255, 255, 0, 0, 0, 0, 255, 0, 1};
  std::vector<S> y;
  for (size_t i = 0; i < 40; i++) y.push_back(stored<S>(static_cast<Value<S>>(values[i % 16])));
  for (size_t isa = 0; isa < dispatch::count(); isa++) {
    if (!dispatch::supported(isa)) continue;
    std::vector<uint8_t> x(40);
    to_images(dispatch::table(isa).of(S()), im, mean, std, y.data(), starts(im, x.data()).data());
    for (size_t i = 0; i < 40; i++) {
      const bool exact = sizeof(S) > 2 || fabs(values[i % 16]) < 3 || !(fabs(values[i % 16]) < 1e10);
      CHECK(!exact || x[i] == expected[i % 16], "%g is %d", values[i % 16], x[i]);
    }
  }
}

// Past the caches the bits are the same.
void streamed() {
  const cpu::Caches own = cpu::caches();
  each_form([&](const Images& im, const char* label) {
    Guarded<uint8_t> x(length(im));
    fill(x);
    const Kernels<float>& k = dispatch::table(0).of(float());
    if (!dispatch::supported(0)) return;
    const Values cached = forward<float>(k, im, x, 4);
    cpu::use_caches({1 << 12, 1 << 10});
    for (const size_t tail : {0, 4, 64}) CHECK(test::same(forward<float>(k, im, x, tail), cached), "%s", label);
    cpu::use_caches(own);
  });
}

template <class S>
void digest(const KernelTable& table, test::Digest* sum) {
  each_form([&](const Images& im, const char*) {
    Guarded<uint8_t> x(length(im));
    sum->add(forward<S>(table.of(S()), im, fill(x), 8));
  });
}

}  // namespace

int main(int count, char** arguments) {
  if (count == 2 && strcmp(arguments[1], "--digest") == 0) {
    for (size_t isa = 0; isa < dispatch::count(); isa++) {
      if (!dispatch::supported(isa)) continue;
      test::Digest sum;
      digest<float>(dispatch::table(isa), &sum);
      digest<double>(dispatch::table(isa), &sum);
      digest<Float16>(dispatch::table(isa), &sum);
      digest<BFloat16>(dispatch::table(isa), &sum);
      printf("digest images %s %016llx\n", dispatch::table(isa).name, static_cast<unsigned long long>(sum.get()));
    }
    return 0;
  }
  check<float>("float32");
  check<double>("float64");
  check<Float16>("float16");
  check<BFloat16>("bfloat16");
  rounding<float>();
  rounding<double>();
  rounding<Float16>();
  streamed();
  return test::finish();
}
