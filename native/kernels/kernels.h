// The table of kernels of one instruction set: what each computes, in which order, and what it may touch.
//
// All kernels: no allocation, no exceptions, unaligned pointers, any n > 0. An output may be exactly an input, never
// overlap it otherwise. `stride` is the distance between pieces or rows, in elements. Sums run in fixed lanes and a
// fixed tree (vec.h), so every ISA gives the same bits.
#ifndef SIMDNORM_KERNELS_KERNELS_H_
#define SIMDNORM_KERNELS_KERNELS_H_

#include <stddef.h>
#include <stdint.h>

#include "native/core/statistic.h"
#include "native/core/storage.h"

namespace simdnorm {

constexpr size_t kVector = 16;      // elements a kernel takes at once
constexpr size_t kBlock = 4096;     // elements a kernel reduces at once: 16 KiB of float, half of L1
constexpr size_t kFloatChain = 24;  // additions of floats in one lane before it is emptied into double: see Chains
constexpr size_t kLine = 64;        // bytes of a cache line

// Elements that sums fetch ahead of themselves. Left to itself AVX2 read rows of 4096 from memory at 0.65 of the rate,
// AVX-512 at 0.8: where a chain is emptied, the CPU looks no further ahead.
constexpr size_t kAhead = 2048;

// An affine map for each column. Where rows have a weight and a bias, those come on top: * weight[row] + bias[row].
template <class T>
struct AffineColumns {
  const T *center, *scale, *shift;
  const T *row_weight, *row_bias;  // or null
};

// A Slope for each column.
template <class T>
struct SlopeColumns {
  const T *center, *dy_factor, *x_factor, *constant;
  const T* row_weight;  // on dy, or null
};

// Rows of one matrix after the other, without gaps: n elements, the first of which is in column `phase`. Coefficients
// are those of `period` columns, at least 16, over again for 16 more: so a vector begins anywhere and no row has a
// rest.
struct Periodic {
  size_t n, period, phase;
};

// `count` rows of n elements, `stride` apart.
struct Rows {
  size_t count, n, stride;
};

// Where dy and dy * xHat of each element of a row are added up, over rows: by way of `lanes`, which are zeros before
// and after. Each pair may be null.
template <class T>
struct ParameterSums {
  double *dy, *dy_xhat;
  T *lanes_dy, *lanes_dy_xhat;
};

// What else y takes in one pass: y = relu(y + add), each where wanted.
template <class S>
struct Finish {
  const S* add;  // laid out as x, or null
  bool relu;
};

// How an output is stored: it stays in the caches; past them, whole lines, of what nobody reads before much else has
// gone through; or over an input that came from beyond them, whose lines are there.
enum class Stores { kCached, kStreamed, kInPlace };

// What data come to, counted from a center: the sums of x - center and of its square, each as high + low; the least and
// the greatest x.
template <class V>
struct Deviations {
  V sum, sum_low, squares, squares_low, min, max;
};
constexpr size_t kTallyColumns = 256;  // columns that are read side by side

// What a window's sum becomes: s = k + scale * sum, and the divisor s^beta.
struct Response {
  double k, scale, beta;
};

// Sixteen pixels of `step` bytes each, as they lie in images, and as many vectors of a tensor as there are channels:
// lane i of vector v is byte lanes[v][i] of the pixels. A vector lies `apart` elements behind the one before it,
// a pixel later everything is `each` elements further: 1 in planes; the channels in pixels, which are 16 apart.
template <class T>
struct Pixels {
  size_t step, channels, apart, each;
  // What Bytes::pick takes: where a lane is among each sixteen bytes, and where a byte is in each vector; kNone if not
  // there.
  static constexpr uint8_t kNone = 0x80;
  uint8_t lanes[4][4][16], bytes[4][4][16];
  T center[4][16], scale[4][16], shift[4][16];
};

// Of tensors stored as S. Everything else is of the type that S is computed with.
template <class S>
struct Kernels {
  using T = Value<S>;

  // Moments of `pieces` stretches of n elements, one block of at most a few thousand elements. With About::kZero the
  // mean is 0 and M2 the sum of squares. Constant data give M2 = 0 exactly. What lies `ahead` elements on is fetched
  // for later, here and below; 0 for nothing.
  Moments (*moments)(const S* x, size_t stride, size_t pieces, size_t n, About about, size_t ahead);

  // The same down each column, a value for each in every array of `out`.
  void (*moments_columns)(const S* x, Rows rows, About about, Spread<double*> out);
  // Those of `nb` values each merged into those of `na`.
  void (*merge_columns)(Spread<double*> into, double na, Spread<double*> from, double nb, size_t columns);

  // y = (x - center) * scale + shift over `runs` stretches of n elements, one after the other, each with its own f.
  void (*apply_runs)(S* y, const S* x, size_t n, size_t runs, const Affine<T>* f, Finish<S> finish, Stores stores,
                     size_t ahead);

  // y = ((x - center) * scale + shift) * weight[i] + bias[i]; weight and bias may each be null.
  void (*apply_elements)(S* y, const S* x, size_t n, Affine<T> f, const T* weight, const T* bias, Finish<S> finish,
                         Stores stores);

  // y = (x - center[j]) * scale[j] + shift[j] in the columns j; and with a weight and a bias for each row.
  void (*apply_columns)(S* y, const S* x, Periodic at, AffineColumns<T> f, Finish<S> finish, Stores stores);
  void (*apply_by_row)(S* y, const S* x, Rows rows, AffineColumns<T> f, Finish<S> finish);

  // Rows of at most kBlock elements by their own statistics: apply_elements of each. Stops before the first row whose
  // statistic asks for more care than this takes, and returns how many are done. `saved` may be null; its records are
  // `saved_stride` apart.
  size_t (*normalize_rows)(S* y, const S* x, Rows rows, const Rule& rule, const T* weight, const T* bias,
                           Finish<S> finish, Statistic* saved, size_t saved_stride, Stores stores);

  // g = dy where the y of the apply kernels is positive or NaN before its ReLU, else 0: y is computed again, which
  // costs less than reading it. g may be dy.
  void (*gate_runs)(S* g, const S* dy, const S* x, size_t n, size_t runs, const Affine<T>* f, const S* add);
  void (*gate_elements)(S* g, const S* dy, const S* x, size_t n, Affine<T> f, const T* weight, const T* bias,
                        const S* add);
  void (*gate_by_row)(S* g, const S* dy, const S* x, Rows rows, AffineColumns<T> f, const S* add);

  // Sums of dy and of dy * (x - center) * scale over `pieces` stretches.
  GradSums (*grad_sums)(const S* dy, const S* x, size_t stride, size_t pieces, size_t n, T center, T scale,
                        size_t ahead);

  // Sums of h = dy * weight[i] and of h * xHat over one stretch, weight may be null; and dy and dy * xHat are added to
  // sum_dy[i] and sum_dy_xhat[i], where there are such.
  GradSums (*grad_elements)(const S* dy, const S* x, size_t n, Affine<T> f, const T* weight, T* sum_dy, T* sum_dy_xhat,
                            size_t ahead);

  // into[i] += from[i], from[i] = 0.
  void (*drain)(double* into, T* from, size_t n);

  // grad_elements and slope_elements of rows of at most kBlock elements; dx may be null. Stops before the first row
  // with a statistic that asks for care, and returns how many are done.
  size_t (*backward_rows)(S* dx, const S* dy, const S* x, Rows rows, About about, const T* weight,
                          const Statistic* saved, size_t saved_stride, ParameterSums<T> sums, Stores stores);

  // Sums of dy and of dy * xHat over one row of columns that each have their own xHat.
  GradSums (*grad_sums_row)(const S* dy, const S* x, size_t cols, AffineColumns<T> f);

  // Down each column: h and h * (x - center[j]) * scale[j], added to sum_dy[j] and sum_dy_xhat[j]; h is dy, times
  // row_weight[row] where there are any.
  void (*grad_columns)(const S* dy, const S* x, Rows rows, const T* center, const T* scale, const T* row_weight,
                       double* sum_dy, double* sum_dy_xhat);

  // dx: over runs, each with its own Slope; with weight[i] on dy; in columns; and those with a weight for each row.
  void (*slope_runs)(S* dx, const S* dy, const S* x, size_t n, size_t runs, const Slope<T>* f, Stores stores,
                     size_t ahead);
  void (*slope_elements)(S* dx, const S* dy, const S* x, size_t n, Slope<T> f, const T* weight, Stores stores,
                         size_t ahead);
  void (*slope_columns)(S* dx, const S* dy, const S* x, Periodic at, SlopeColumns<T> f, Stores stores);
  void (*slope_by_row)(S* dx, const S* dy, const S* x, Rows rows, SlopeColumns<T> f);

  // Local response: everything but the data is double, so that no float's square overflows or vanishes. A window's sum
  // at i is terms[i] + terms[i + step] + ... of `window` terms, added from the first on; terms are n + (window - 1) *
  // step. s^beta is only + - * / sqrt for a beta of 0.5, 0.75 and 1, within 2^-33 of itself for 0.75 and data that
  // are computed with in float; and within 2^-52 + |beta ln s| * 2^-58 of itself for any other beta.

  // squares[i] = x[i]^2
  void (*squares)(double* squares, const S* x, size_t n);

  // y = x / s^beta
  void (*respond)(S* y, const S* x, const double* squares, size_t step, size_t window, size_t n, Response f);

  // direct = dy / s^beta, and ratio = direct * x / s, which the other channels of the window have their share in.
  // direct may be squares, where a window begins.
  void (*respond_back)(double* direct, double* ratio, const S* dy, const S* x, const double* squares, size_t step,
                       size_t window, size_t n, Response f);

  // dx = direct - x * factor * (the window's sum of ratio)
  void (*respond_slope)(S* dx, const S* x, const double* direct, const double* ratio, size_t step, size_t window,
                        size_t n, double factor);

  // n pixels of images become a tensor's, y = (byte - center) * scale + shift; and back, byte = y * scale + shift,
  // rounded to the nearest, to even, within 0 to 255, and 0 for NaN.
  void (*from_pixels)(S* y, const uint8_t* x, size_t n, const Pixels<T>& p, Stores stores);
  void (*to_pixels)(uint8_t* x, const S* y, size_t n, const Pixels<T>& p);

  // Each row i of terms, rows x cols, becomes the sum of rows i - before to i + after, as far as there are such: of
  // their own terms only, by at most three additions an element whatever the window is. `rest` is working memory of the
  // same shape.
  void (*window_sums)(double* terms, double* rest, size_t stride, size_t rows, size_t cols, size_t before,
                      size_t after);
};

// Of data stored as S, integers too; all arithmetic is double.
template <class S>
struct Tallies {
  // A center for each column, and one for `pieces` stretches of n elements together: the mean of some of the data,
  // rounded to what they are computed with, exactly that of constant data. Not finite where one of those is not.
  void (*centers)(const S* x, Rows rows, double* center);
  double (*center)(const S* x, size_t stride, size_t pieces, size_t n);
  // The sums from there, of at most kTallyColumns columns. Where there is a NaN or an infinity, `sum` is NaN or
  // infinite, and min and max are nothing to go by.
  void (*columns)(const S* x, Rows rows, const double* center, Deviations<double*> out);
  Deviations<double> (*run)(const S* x, size_t stride, size_t pieces, size_t n, double center, size_t ahead);
};

struct KernelTable {
  const char* name;
  Kernels<float> f32;
  Kernels<double> f64;
  Kernels<Float16> f16;
  Kernels<BFloat16> bf16;
  Tallies<float> tally_f32;
  Tallies<double> tally_f64;
  Tallies<Float16> tally_f16;
  Tallies<BFloat16> tally_bf16;
  Tallies<uint8_t> tally_u8;
  Tallies<int8_t> tally_i8;
  Tallies<int16_t> tally_i16;
  Tallies<int32_t> tally_i32;

  const Kernels<float>& of(float) const { return f32; }
  const Kernels<double>& of(double) const { return f64; }
  const Kernels<Float16>& of(Float16) const { return f16; }
  const Kernels<BFloat16>& of(BFloat16) const { return bf16; }

  const Tallies<float>& tally_of(float) const { return tally_f32; }
  const Tallies<double>& tally_of(double) const { return tally_f64; }
  const Tallies<Float16>& tally_of(Float16) const { return tally_f16; }
  const Tallies<BFloat16>& tally_of(BFloat16) const { return tally_bf16; }
  const Tallies<uint8_t>& tally_of(uint8_t) const { return tally_u8; }
  const Tallies<int8_t>& tally_of(int8_t) const { return tally_i8; }
  const Tallies<int16_t>& tally_of(int16_t) const { return tally_i16; }
  const Tallies<int32_t>& tally_of(int32_t) const { return tally_i32; }
};

}  // namespace simdnorm

#endif  // SIMDNORM_KERNELS_KERNELS_H_
