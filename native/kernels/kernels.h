// The table of kernels of one instruction set: what each computes, in which order, and what it may touch.
//
// All kernels: no allocation, no exceptions, unaligned pointers, any n > 0. An output may be exactly an input, never
// overlap it otherwise. `stride` is the distance between pieces or rows, in elements. Sums run in fixed lanes and a
// fixed tree (vec.h), so every ISA gives the same bits.
#ifndef SIMDNORM_KERNELS_KERNELS_H_
#define SIMDNORM_KERNELS_KERNELS_H_

#include <stddef.h>

#include "native/core/moments.h"
#include "native/core/storage.h"

namespace simdnorm {

// About which point squares are summed: the mean, or zero (RMSNorm).
enum class About { kMean, kZero };

// xHat = (x - center) * scale + shift, and y = xHat * weight + bias where there are any.
template <class T>
struct Affine {
  T center, scale, shift;
};

// The same, one value per column. Where rows have a weight and a bias, those come on top: * weight[row] + bias[row].
template <class T>
struct AffineColumns {
  const T *center, *scale, *shift;
  const T *row_weight, *row_bias;  // or null
};

// What else y takes in one pass: y = relu(y + add), each where wanted.
template <class S>
struct Finish {
  const S* add;  // laid out as x, or null
  bool relu;
};

// dx = dy * dy_factor + ((x - center) * scale) * x_factor + constant
template <class T>
struct Slope {
  T center, scale, dy_factor, x_factor, constant;
};

template <class T>
struct SlopeColumns {
  const T *center, *scale, *dy_factor, *x_factor, *constant;
  const T* row_weight;  // on dy, or null
};

struct GradSums {
  double dy, dy_xhat;
};

// What a window's sum becomes: s = k + scale * sum, and the divisor s^beta.
struct Response {
  double k, scale, beta;
};

// Of tensors stored as S. Everything else is of the type that S is computed with.
template <class S>
struct Kernels {
  using T = Value<S>;

  // Moments of `pieces` stretches of n elements, one block of at most a few thousand elements. With About::kZero the
  // mean is 0 and M2 the sum of squares. Constant data give M2 = 0 exactly.
  Moments (*moments)(const S* x, size_t stride, size_t pieces, size_t n, About about);

  // The same down each column of rows x cols; merged into `into`, which holds `count` values of each column.
  void (*moments_columns)(const S* x, size_t stride, size_t rows, size_t cols, About about, double count,
                          Spread<double*> into);

  // y = (x - center) * scale + shift over one stretch.
  void (*apply)(S* y, const S* x, size_t n, Affine<T> f, Finish<S> finish);

  // y = ((x - center) * scale + shift) * weight[i] + bias[i]; weight and bias may each be null.
  void (*apply_elements)(S* y, const S* x, size_t n, Affine<T> f, const T* weight, const T* bias, Finish<S> finish);

  // y = (x - center[j]) * scale[j] + shift[j] down the columns j.
  void (*apply_columns)(S* y, const S* x, size_t stride, size_t rows, size_t cols, AffineColumns<T> f,
                        Finish<S> finish);

  // g = dy where the y of the three above is positive or NaN before its ReLU, else 0: y is computed again, which costs
  // less than reading it. g may be dy.
  void (*gate)(S* g, const S* dy, const S* x, size_t n, Affine<T> f, const S* add);
  void (*gate_elements)(S* g, const S* dy, const S* x, size_t n, Affine<T> f, const T* weight, const T* bias,
                        const S* add);
  void (*gate_columns)(S* g, const S* dy, const S* x, size_t stride, size_t rows, size_t cols, AffineColumns<T> f,
                       const S* add);

  // Sums of dy and of dy * (x - center) * scale over `pieces` stretches.
  GradSums (*grad_sums)(const S* dy, const S* x, size_t stride, size_t pieces, size_t n, T center, T scale);

  // Sums of dy * weight[i] and of dy * weight[i] * xHat over one stretch; weight may be null.
  GradSums (*grad_sums_elements)(const S* dy, const S* x, size_t n, Affine<T> f, const T* weight);

  // Sums of dy and of dy * xHat over one row of columns that each have their own xHat.
  GradSums (*grad_sums_row)(const S* dy, const S* x, size_t cols, AffineColumns<T> f);

  // Down each column: h and h * (x - center[j]) * scale[j], added to sum_dy[j] and sum_dy_xhat[j]; h is dy, times
  // row_weight[row] where there are any.
  void (*grad_columns)(const S* dy, const S* x, size_t stride, size_t rows, size_t cols, const T* center,
                       const T* scale, const T* row_weight, double* sum_dy, double* sum_dy_xhat);

  // The same of dy with xHat by row: row i uses f[i].
  void (*grad_columns_by_row)(const S* dy, const S* x, size_t stride, size_t rows, size_t cols, const Affine<T>* f,
                              double* sum_dy, double* sum_dy_xhat);

  // dx over one stretch, with one Slope; with weight[i] on dy (may be null) and xHat; and down columns.
  void (*slope)(S* dx, const S* dy, const S* x, size_t n, Slope<T> f);
  void (*slope_elements)(S* dx, const S* dy, const S* x, size_t n, Affine<T> f, const T* weight, T dy_factor,
                         T x_factor, T constant);
  void (*slope_columns)(S* dx, const S* dy, const S* x, size_t stride, size_t rows, size_t cols, SlopeColumns<T> f);

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

  // Each row i of terms, rows x cols, becomes the sum of rows i - before to i + after, as far as there are such: of
  // their own terms only, by at most three additions an element whatever the window is. `rest` is working memory of the
  // same shape.
  void (*window_sums)(double* terms, double* rest, size_t stride, size_t rows, size_t cols, size_t before,
                      size_t after);
};

struct KernelTable {
  const char* name;
  Kernels<float> f32;
  Kernels<double> f64;
  Kernels<Float16> f16;
  Kernels<BFloat16> bf16;

  const Kernels<float>& of(float) const { return f32; }
  const Kernels<double>& of(double) const { return f64; }
  const Kernels<Float16>& of(Float16) const { return f16; }
  const Kernels<BFloat16>& of(BFloat16) const { return bf16; }
};

}  // namespace simdnorm

#endif  // SIMDNORM_KERNELS_KERNELS_H_
