// Every kernel of every instruction set this machine supports: the same bits as the portable ones, near a plain double
// reference, in place as out of place, and not one byte beyond its arrays.
//
//   kernels_test --digest    one hash for each instruction set over all outputs, to compare machines by
#include "native/kernels/kernels.h"

#include <float.h>

#include <algorithm>

#include "native/dispatch/dispatch.h"
#include "test/native/check.h"
#include "test/native/data.h"

using namespace simdnorm;
using test::Guarded;
using test::Kind;
using test::Values;

namespace {

constexpr size_t kTail = 64;  // guard bytes behind what kernels write
constexpr Stores kCached = Stores::kCached, kStreamed = Stores::kStreamed;

// rows x cols, `stride` apart: pieces of a stretch to some kernels, columns to others. Every input ends at a page that
// may not be touched.
template <class T>
struct Case {
  Kind kind;
  size_t rows, cols, stride;
  Guarded<T> x, dy, center, scale, shift, weight, bias, add;
  Guarded<Affine<T>> by_row;
  Guarded<T> row_weight, row_bias;
  Guarded<Statistic> saved;

  Case(Kind kind, size_t rows, size_t cols, size_t stride)
      : kind(kind),
        rows(rows),
        cols(cols),
        stride(stride),
        x((rows - 1) * stride + cols),
        dy(x.size()),
        center(cols),
        scale(cols),
        shift(cols),
        weight(cols),
        bias(cols),
        add(x.size()),
        by_row(rows),
        row_weight(rows),
        row_bias(rows),
        saved(rows) {
    test::Random random(rows * 1000003 + cols * 1009 + static_cast<size_t>(kind));
    for (size_t i = 0; i < x.size(); i++) {
      x[i] = test::make<T>(kind, i, x.size(), random);
      dy[i] = static_cast<T>(random.normal());
      add[i] = static_cast<T>(random.normal());
    }
    for (size_t j = 0; j < cols; j++) {
      center[j] = test::finite(kind) ? x[j] : T(0.5);
      scale[j] = static_cast<T>(1 + random.uniform());
      shift[j] = static_cast<T>(random.normal());
      weight[j] = static_cast<T>(random.normal());
      bias[j] = static_cast<T>(random.normal());
    }
    for (size_t row = 0; row < rows; row++) {
      by_row[row] = {center[row % cols], static_cast<T>(1 + random.uniform()), T(0.25)};
      row_weight[row] = static_cast<T>(random.normal());
      row_bias[row] = static_cast<T>(random.normal());
      saved[row] = {static_cast<double>(by_row[row].center), 0.125, 1, 1 + random.uniform(), 1};
    }
  }
  Rows shape() const { return {rows, cols, stride}; }
  Affine<T> affine() const { return {center[0], scale[0], shift[0]}; }
  AffineColumns<T> columns(bool weighted = false) const {
    return {center.get(), scale.get(), shift.get(), weighted ? row_weight.get() : nullptr,
            weighted ? row_bias.get() : nullptr};
  }
};

// What a kernel should give, and the size of the terms it is made of, to which its error is compared.
struct Near {
  double value, size;
};
using Expected = std::vector<Near>;

enum class Place { kApart, kOverX, kOverDy };

// The output of f(y, x, dy), a kernel that writes rows; the gaps between rows keep what they held.
template <class T, class F>
Values written(const Case<T>& c, Place place, F f) {
  Guarded<T> y(c.x.size(), kTail);
  const T* over = place == Place::kOverX ? c.x.get() : place == Place::kOverDy ? c.dy.get() : nullptr;
  for (size_t i = 0; i < y.size(); i++) y[i] = over ? over[i] : T(77);
  f(y.get(), place == Place::kOverX ? y.get() : c.x.get(), place == Place::kOverDy ? y.get() : c.dy.get());
  CHECK(y.intact());
  Values out;
  bool gaps = true;
  for (size_t i = 0; i < y.size(); i++) {
    if (i % c.stride < c.cols) {
      out.push_back(static_cast<double>(y[i]));
    } else {
      gaps = gaps && test::bits(static_cast<double>(y[i])) == test::bits(over ? static_cast<double>(over[i]) : 77);
    }
  }
  CHECK(gaps, "between rows");
  return out;
}

// f(x, dy, row, col) for every element.
template <class T, class F>
Expected each(const Case<T>& c, F f) {
  Expected out;
  for (size_t row = 0; row < c.rows; row++) {
    for (size_t j = 0; j < c.cols; j++) {
      const size_t i = row * c.stride + j;
      out.push_back(f(static_cast<double>(c.x[i]), static_cast<double>(c.dy[i]), row, j));
    }
  }
  return out;
}

Near line(double x, double center, double scale, double shift) {
  return {(x - center) * scale + shift, fabs((x - center) * scale) + fabs(shift)};
}
Near times(Near v, double factor) { return {v.value * factor, v.size * fabs(factor)}; }
Near plus(Near v, double term) { return {v.value + term, v.size + fabs(term)}; }
Near plus(Near v, Near w) { return {v.value + w.value, v.size + w.size}; }

template <class T>
Near line(double x, Affine<T> f) {
  return line(x, static_cast<double>(f.center), static_cast<double>(f.scale), static_cast<double>(f.shift));
}

template <class T>
double at(const Guarded<T>& values, size_t i) {
  return static_cast<double>(values[i]);
}

template <class T>
Near slope_of(double dy, Near x_hat, double a, double b, double c) {
  return plus(plus(times(x_hat, b), {dy * a, fabs(dy * a)}), c);
}

Values sums_of(GradSums s) { return {s.dy, s.dy_xhat}; }

// Sums of dy and of dy * x_hat(x, row, col) down each column.
template <class T, class F, class W>
Expected grad_down(const Case<T>& c, F x_hat, W weight) {
  Expected out(2 * c.cols, {0, 0});
  for (size_t row = 0; row < c.rows; row++) {
    for (size_t j = 0; j < c.cols; j++) {
      const size_t i = row * c.stride + j;
      const double h = at(c.dy, i) * weight(row);
      out[j] = plus(out[j], h);
      out[c.cols + j] = plus(out[c.cols + j], times(x_hat(at(c.x, i), row, j), h));
    }
  }
  return out;
}
template <class T, class F>
Expected grad_down(const Case<T>& c, F x_hat) {
  return grad_down(c, x_hat, [](size_t) { return 1.0; });
}

// Two passes. A mean is as good as the spread around it allows, and as its own last bit in double.
template <class T>
void moments_into(const Case<T>& c, About about, size_t first, size_t last, Near* mean, Near* m2) {
  const double n = static_cast<double>(c.rows * (last - first));
  const double eps = static_cast<double>(std::numeric_limits<T>::epsilon());
  double center = 0, sum = 0, squares = 0;
  const auto over = [&](auto f) {
    for (size_t row = 0; row < c.rows; row++) {
      for (size_t j = first; j < last; j++) f(at(c.x, row * c.stride + j));
    }
  };
  if (about == About::kMean) {
    const double origin = at(c.x, first);
    over([&](double v) { sum += v - origin; });
    center = origin + sum / n;
  }
  over([&](double v) { squares += (v - center) * (v - center); });
  *mean = {center, about == About::kZero ? 0 : sqrt(squares / n) + fabs(center) * 0x1p-52 / eps};
  *m2 = {squares, squares};
}

template <class T>
struct Kernel {
  const char* name;
  Values (*run)(const Kernels<T>&, const Case<T>&, Place);
  Expected (*expect)(const Case<T>&);
  bool sums;                 // an error grows with the number of terms
  bool over_x, over_dy;      // where the output may lie
  bool leaves_rows = false;  // float data of 1e30 and double denormals to the ops
};

template <class T, About about>
Values moments(const Kernels<T>& k, const Case<T>& c, Place) {
  const Moments m = k.moments(c.x.get(), c.stride, c.rows, c.cols, about, c.stride);
  CHECK(m.count == static_cast<double>(c.rows * c.cols));
  const bool constant = c.kind == Kind::kConstant || c.kind == Kind::kZeros;
  if (about == About::kMean && constant) {
    CHECK(m.m2 == 0 && m.m2_low == 0 && m.mean == at(c.x, 0) && m.mean_low == 0, "constant data");
  }
  return {m.mean, m.m2, m.mean_low, m.m2_low};
}
template <class T, About about>
Expected expect_moments(const Case<T>& c) {
  Expected out(2);
  moments_into(c, about, 0, c.cols, &out[0], &out[1]);
  return out;
}

// In two parts where there are rows for two, merged.
template <class T, About about>
Values moments_columns(const Kernels<T>& k, const Case<T>& c, Place) {
  Guarded<double> mean(c.cols, kTail), mean_low(c.cols, kTail), m2(c.cols, kTail), m2_low(c.cols, kTail);
  const Spread<double*> into = {mean.get(), mean_low.get(), m2.get(), m2_low.get()};
  const size_t first = c.rows < 2 ? c.rows : c.rows / 3 + 1;
  k.moments_columns(c.x.get(), {first, c.cols, c.stride}, about, into);
  if (first < c.rows) {
    Guarded<double> more(4 * c.cols, kTail);
    double* p = more.get();
    const Spread<double*> from = {p, p + c.cols, p + 2 * c.cols, p + 3 * c.cols};
    k.moments_columns(c.x.get() + first * c.stride, {c.rows - first, c.cols, c.stride}, about, from);
    k.merge_columns(into, static_cast<double>(first), from, static_cast<double>(c.rows - first), c.cols);
    CHECK(more.intact());
  }
  CHECK(mean.intact() && mean_low.intact() && m2.intact() && m2_low.intact());
  Values out;
  for (const Guarded<double>* part : {&mean, &m2, &mean_low, &m2_low})
    out.insert(out.end(), part->get(), part->get() + c.cols);
  return out;
}
template <class T, About about>
Expected expect_moments_columns(const Case<T>& c) {
  Expected out(2 * c.cols);
  for (size_t j = 0; j < c.cols; j++) moments_into(c, about, j, j + 1, &out[j], &out[c.cols + j]);
  return out;
}

// What a kernel of the apply family does besides: nothing, add, or add and ReLU; or the gate of that ReLU.
enum class End { kPlain, kAdd, kRelu, kGate, kAddGate };
constexpr bool adds(End end) { return end == End::kAdd || end == End::kRelu || end == End::kAddGate; }
constexpr bool gates(End end) { return end == End::kGate || end == End::kAddGate; }

template <class T>
Finish<T> finish_at(const Case<T>& c, End end, size_t i) {
  return {adds(end) ? c.add.get() + i : nullptr, end == End::kRelu};
}
// A gate gives dy or 0; which one, where y is as good as 0, is for the portable kernel to say.
template <class T>
Near ended(const Case<T>& c, End end, Near y, size_t i, double dy) {
  if (adds(end)) y = plus(y, at(c.add, i));
  if (gates(end)) {
    const double doubt = 8 * static_cast<double>(std::numeric_limits<T>::epsilon()) * y.size +
                         8 * static_cast<double>(std::numeric_limits<T>::denorm_min());
    return fabs(y.value) <= doubt ? Near{dy / 2, INFINITY} : Near{y.value > 0 ? dy : 0, 0};
  }
  return end == End::kRelu && y.value < 0 ? Near{0, y.size} : y;
}

// Runs without gaps, each with its own coefficients; or, where there are gaps, run by run.
template <class T, End end, Stores stores>
Values apply_runs(const Kernels<T>& k, const Case<T>& c, Place place) {
  return written(c, place, [&](T* y, const T* x, const T* dy) {
    const size_t together = c.stride == c.cols ? c.rows : 1;
    for (size_t row = 0; row < c.rows; row += together) {
      const size_t i = row * c.stride;
      const Finish<T> finish = finish_at(c, end, i);
      const Affine<T>* f = c.by_row.get() + row;
      if (gates(end)) k.gate_runs(y + i, dy + i, x + i, c.cols, together, f, finish.add);
      if (!gates(end)) k.apply_runs(y + i, x + i, c.cols, together, f, finish, stores, c.cols);
    }
  });
}
template <class T, End end>
Expected expect_apply_runs(const Case<T>& c) {
  return each(c, [&](double x, double dy, size_t row, size_t j) {
    return ended(c, end, line(x, c.by_row[row]), row * c.stride + j, dy);
  });
}

template <class T, bool weighted, bool biased, End end>
Values apply_elements(const Kernels<T>& k, const Case<T>& c, Place place) {
  const T *weight = weighted ? c.weight.get() : nullptr, *bias = biased ? c.bias.get() : nullptr;
  return written(c, place, [&](T* y, const T* x, const T* dy) {
    for (size_t i = 0; i < c.rows * c.stride; i += c.stride) {
      const Finish<T> finish = finish_at(c, end, i);
      if (gates(end)) k.gate_elements(y + i, dy + i, x + i, c.cols, c.affine(), weight, bias, finish.add);
      if (!gates(end)) k.apply_elements(y + i, x + i, c.cols, c.affine(), weight, bias, finish, kStreamed);
    }
  });
}
template <class T, bool weighted, bool biased, End end>
Expected expect_apply_elements(const Case<T>& c) {
  return each(c, [&](double x, double dy, size_t row, size_t j) {
    const Near y = plus(times(line(x, c.affine()), weighted ? at(c.weight, j) : 1), biased ? at(c.bias, j) : 0);
    return ended(c, end, y, row * c.stride + j, dy);
  });
}

template <class T, bool weighted, End end>
Values apply_by_row(const Kernels<T>& k, const Case<T>& c, Place place) {
  return written(c, place, [&](T* y, const T* x, const T* dy) {
    const Finish<T> finish = finish_at(c, end, 0);
    const AffineColumns<T> f = c.columns(weighted);
    if (gates(end)) k.gate_by_row(y, dy, x, c.shape(), f, finish.add);
    if (!gates(end)) k.apply_by_row(y, x, c.shape(), f, finish);
  });
}

// A coefficient of each column, over again until there are 16 and then for 16 more.
template <class T>
struct Repeated {
  size_t period;
  Guarded<T> values;
  Repeated(const Case<T>& c, const Guarded<T>& from) : period((15 + c.cols) / c.cols * c.cols), values(period + 16) {
    for (size_t j = 0; j < values.size(); j++) values[j] = from[j % c.cols];
  }
};

// Matrices without gaps, in two parts so that the second begins inside a row; with gaps, row by row.
template <class T, class F>
void each_stretch(const Case<T>& c, size_t period, F f) {
  const size_t n = c.rows * c.cols, part = c.stride != c.cols ? c.cols : n / 2 + 1;
  for (size_t i = 0; i < n; i += part) {
    const size_t at = i / c.cols * c.stride + i % c.cols;
    f(at, Periodic{i + part < n ? part : n - i, period, i % period});
  }
}

template <class T, End end, Stores stores>
Values apply_columns(const Kernels<T>& k, const Case<T>& c, Place place) {
  const Repeated<T> center(c, c.center), scale(c, c.scale), shift(c, c.shift);
  const AffineColumns<T> f = {center.values.get(), scale.values.get(), shift.values.get(), nullptr, nullptr};
  return written(c, place, [&](T* y, const T* x, const T*) {
    each_stretch(c, center.period,
                 [&](size_t i, Periodic at) { k.apply_columns(y + i, x + i, at, f, finish_at(c, end, i), stores); });
  });
}
template <class T, bool weighted, End end>
Expected expect_apply_columns(const Case<T>& c) {
  return each(c, [&](double x, double dy, size_t row, size_t j) {
    Near y = line(x, at(c.center, j), at(c.scale, j), at(c.shift, j));
    if (weighted) y = plus(times(y, at(c.row_weight, row)), at(c.row_bias, row));
    return ended(c, end, y, row * c.stride + j, dy);
  });
}

template <class T>
Values grad_sums(const Kernels<T>& k, const Case<T>& c, Place) {
  return sums_of(k.grad_sums(c.dy.get(), c.x.get(), c.stride, c.rows, c.cols, c.center[0], c.scale[0], c.stride));
}
template <class T>
Expected expect_grad_sums(const Case<T>& c) {
  const Expected down =
      grad_down(c, [&](double x, size_t, size_t) { return line(x, at(c.center, 0), at(c.scale, 0), 0); });
  Expected out = {{0, 0}, {0, 0}};
  for (size_t i = 0; i < down.size(); i++) out[i / c.cols] = plus(out[i / c.cols], down[i]);
  return out;
}

template <class T, bool weighted>
Expected expect_grad_sums_elements(const Case<T>& c) {
  Expected out = {{0, 0}, {0, 0}};
  for (size_t j = 0; j < c.cols; j++) {
    const double g = at(c.dy, j) * (weighted ? at(c.weight, j) : 1);
    out[0] = plus(out[0], g);
    out[1] = plus(out[1], times(line(at(c.x, j), c.affine()), g));
  }
  return out;
}

// Added to what is there: 1 and 2.
template <class T, class F>
Values grad_columns_with(const Case<T>& c, F f) {
  Guarded<double> dy(c.cols, kTail), dy_xhat(c.cols, kTail);
  for (size_t j = 0; j < c.cols; j++) {
    dy[j] = 1;
    dy_xhat[j] = 2;
  }
  f(dy.get(), dy_xhat.get());
  CHECK(dy.intact() && dy_xhat.intact());
  Values out(dy.get(), dy.get() + c.cols);
  out.insert(out.end(), dy_xhat.get(), dy_xhat.get() + c.cols);
  return out;
}
template <class T>
Expected started(Expected out, const Case<T>& c) {
  for (size_t j = 0; j < c.cols; j++) {
    out[j] = plus(out[j], 1);
    out[c.cols + j] = plus(out[c.cols + j], 2);
  }
  return out;
}

// Both sums of h, and those of the elements, by way of lanes that are emptied.
template <class T, bool weighted>
Values grad_elements(const Kernels<T>& k, const Case<T>& c, Place) {
  Values out;
  const Values elements = grad_columns_with(c, [&](double* dy, double* dy_xhat) {
    Guarded<T> lanes(2 * c.cols, kTail);
    for (size_t i = 0; i < lanes.size(); i++) lanes[i] = 0;
    out = sums_of(k.grad_elements(c.dy.get(), c.x.get(), c.cols, c.affine(), weighted ? c.weight.get() : nullptr,
                                  lanes.get(), lanes.get() + c.cols, c.stride));
    k.drain(dy, lanes.get(), c.cols);
    k.drain(dy_xhat, lanes.get() + c.cols, c.cols);
    bool empty = true;
    for (size_t i = 0; i < lanes.size(); i++) empty = empty && lanes[i] == 0;
    CHECK(empty && lanes.intact());
  });
  const Values alone = sums_of(k.grad_elements(c.dy.get(), c.x.get(), c.cols, c.affine(),
                                               weighted ? c.weight.get() : nullptr, nullptr, nullptr, 0));
  CHECK(test::same(out, alone), "without sums of elements");
  out.insert(out.end(), elements.begin(), elements.end());
  return out;
}
template <class T, bool weighted>
Expected expect_grad_elements(const Case<T>& c) {
  Expected out = expect_grad_sums_elements<T, weighted>(c), elements(2 * c.cols);
  for (size_t j = 0; j < c.cols; j++) {
    const double g = at(c.dy, j);
    elements[j] = {g, fabs(g)};
    elements[c.cols + j] = times(line(at(c.x, j), c.affine()), g);
  }
  elements = started(elements, c);
  out.insert(out.end(), elements.begin(), elements.end());
  return out;
}

template <class T>
Values grad_sums_row(const Kernels<T>& k, const Case<T>& c, Place) {
  return sums_of(k.grad_sums_row(c.dy.get(), c.x.get(), c.cols, c.columns()));
}
template <class T>
Expected expect_grad_sums_row(const Case<T>& c) {
  Expected out = {{0, 0}, {0, 0}};
  for (size_t j = 0; j < c.cols; j++) {
    out[0] = plus(out[0], at(c.dy, j));
    out[1] = plus(out[1], times(line(at(c.x, j), at(c.center, j), at(c.scale, j), at(c.shift, j)), at(c.dy, j)));
  }
  return out;
}

template <class T, bool weighted>
Values grad_columns(const Kernels<T>& k, const Case<T>& c, Place) {
  return grad_columns_with(c, [&](double* dy, double* dy_xhat) {
    k.grad_columns(c.dy.get(), c.x.get(), c.shape(), c.center.get(), c.scale.get(),
                   weighted ? c.row_weight.get() : nullptr, dy, dy_xhat);
  });
}
template <class T, bool weighted>
Expected expect_grad_columns(const Case<T>& c) {
  const auto x_hat = [&](double x, size_t, size_t j) { return line(x, at(c.center, j), at(c.scale, j), 0); };
  return started(grad_down(c, x_hat, [&](size_t row) { return weighted ? at(c.row_weight, row) : 1; }), c);
}

// dx = dy * a + (x - center) * b + c
template <class T>
Near slope_near(const Slope<T>& f, double x, double dy) {
  const double a = static_cast<double>(f.dy_factor), of_dy = dy * a;
  const Near of_x = line(x, static_cast<double>(f.center), static_cast<double>(f.x_factor), 0);
  return plus(plus(of_x, {of_dy, fabs(of_dy)}), static_cast<double>(f.constant));
}
template <class T>
Slope<T> slope_at(const Case<T>& c, size_t j) {
  return {c.center[j], c.weight[j], c.bias[j], c.shift[j]};
}

template <class T, Stores stores>
Values slope_runs(const Kernels<T>& k, const Case<T>& c, Place place) {
  return written(c, place, [&](T* dx, const T* x, const T* dy) {
    const size_t together = c.stride == c.cols ? c.rows : 1;
    std::vector<Slope<T>> f;
    for (size_t row = 0; row < c.rows; row++) f.push_back(slope_at(c, row % c.cols));
    for (size_t row = 0; row < c.rows; row += together) {
      const size_t i = row * c.stride;
      k.slope_runs(dx + i, dy + i, x + i, c.cols, together, f.data() + row, stores, 0);
    }
  });
}
template <class T>
Expected expect_slope_runs(const Case<T>& c) {
  return each(c, [&](double x, double dy, size_t row, size_t) { return slope_near(slope_at(c, row % c.cols), x, dy); });
}

template <class T, bool weighted>
Values slope_elements(const Kernels<T>& k, const Case<T>& c, Place place) {
  return written(c, place, [&](T* dx, const T* x, const T* dy) {
    for (size_t i = 0; i < c.rows * c.stride; i += c.stride) {
      k.slope_elements(dx + i, dy + i, x + i, c.cols, slope_at(c, 0), weighted ? c.weight.get() : nullptr, kStreamed,
                       c.stride);
    }
  });
}
template <class T, bool weighted>
Expected expect_slope_elements(const Case<T>& c) {
  return each(c, [&](double x, double dy, size_t, size_t j) {
    return slope_near(slope_at(c, 0), x, dy * (weighted ? at(c.weight, j) : 1));
  });
}

template <class T, Stores stores>
Values slope_columns(const Kernels<T>& k, const Case<T>& c, Place place) {
  const Repeated<T> center(c, c.center), a(c, c.weight), b(c, c.bias), constant(c, c.shift);
  const SlopeColumns<T> f = {center.values.get(), a.values.get(), b.values.get(), constant.values.get(), nullptr};
  return written(c, place, [&](T* dx, const T* x, const T* dy) {
    each_stretch(c, center.period,
                 [&](size_t i, Periodic at) { k.slope_columns(dx + i, dy + i, x + i, at, f, stores); });
  });
}
template <class T>
Values slope_by_row(const Kernels<T>& k, const Case<T>& c, Place place) {
  return written(c, place, [&](T* dx, const T* x, const T* dy) {
    k.slope_by_row(dx, dy, x, c.shape(),
                   {c.center.get(), c.weight.get(), c.bias.get(), c.shift.get(), c.row_weight.get()});
  });
}
template <class T, bool weighted>
Expected expect_slope_columns(const Case<T>& c) {
  return each(c, [&](double x, double dy, size_t row, size_t j) {
    return slope_near(slope_at(c, j), x, dy * (weighted ? at(c.row_weight, row) : 1));
  });
}

// Whole rows. A kernel may stop before a row that asks for care; those after it are then done from there on, and the
// row itself is left as it was: marked in what is returned, so that every instruction set must stop at the same.
template <class T, About about, bool affine>
Values normalize_rows(const Kernels<T>& k, const Case<T>& c, Place place) {
  Guarded<Statistic> saved(c.rows, kTail);
  for (size_t row = 0; row < c.rows; row++) saved[row] = {0, 0, 0, 0, 0};
  Values out = written(c, place, [&](T* y, const T* x, const T*) {
    for (size_t row = 0; row < c.rows; row++) {
      const size_t i = row * c.stride;
      row += k.normalize_rows(y + i, x + i, {c.rows - row, c.cols, c.stride}, {1e-5, about, false},
                              affine ? c.weight.get() : nullptr, affine ? c.bias.get() : nullptr, {nullptr, false},
                              saved.get() + row, 1, kStreamed);
    }
  });
  CHECK(saved.intact());
  for (size_t row = 0; row < c.rows; row++) {
    for (size_t j = 0; saved[row].scale == 0 && j < c.cols; j++) out[row * c.cols + j] = 0;
    const Statistic& s = saved[row];
    out.insert(out.end(), {s.mean + s.rest, s.var, s.mean, s.rstd, s.scale});
  }
  return out;
}
template <class T, About about, bool affine>
Expected expect_normalize_rows(const Case<T>& c) {
  Expected out, statistics;
  for (size_t row = 0; row < c.rows; row++) {
    const double n = static_cast<double>(c.cols);
    double mean = 0, var = 0;
    const auto over = [&](auto f) {
      for (size_t j = 0; j < c.cols; j++) f(at(c.x, row * c.stride + j));
    };
    const double origin = at(c.x, row * c.stride);
    if (about == About::kMean) {
      over([&](double v) { mean += (v - origin) / n; });
      mean += origin;
    }
    over([&](double v) { var += (v - mean) * (v - mean) / n; });
    const double rstd = 1 / sqrt(var + 1e-5), spread = sqrt(var) * rstd;
    const double eps = static_cast<double>(std::numeric_limits<T>::epsilon());
    // As good as the mean allows, which is known to the last bit of a double.
    const double doubt = fabs(mean) * 0x1p-52 / eps;
    over([&](double v) {
      const double x_hat = (v - mean) * rstd;
      const size_t j = out.size() % c.cols;
      out.push_back(plus(times({x_hat, 4 * (fabs(x_hat) + spread + doubt * rstd)}, affine ? at(c.weight, j) : 1),
                         affine ? at(c.bias, j) : 0));
    });
    statistics.push_back({mean, about == About::kZero ? 0 : sqrt(var) + doubt});
    statistics.push_back({var, var + 1e-5});  // beside eps
    for (size_t i = 0; i < 3; i++) statistics.push_back({0, INFINITY});
  }
  out.insert(out.end(), statistics.begin(), statistics.end());
  return out;
}

template <class T, bool weighted>
Values backward_rows(const Kernels<T>& k, const Case<T>& c, Place place) {
  Values elements;
  size_t done = 0;
  Values out = written(c, place, [&](T* dx, const T* x, const T* dy) {
    elements = grad_columns_with(c, [&](double* sum_dy, double* sum_dy_xhat) {
      Guarded<T> lanes(2 * c.cols, kTail);
      for (size_t i = 0; i < lanes.size(); i++) lanes[i] = 0;
      done = k.backward_rows(dx, dy, x, c.shape(), About::kMean, weighted ? c.weight.get() : nullptr, c.saved.get(), 1,
                             {sum_dy, sum_dy_xhat, lanes.get(), lanes.get() + c.cols}, kStreamed);
      CHECK((done == c.rows || c.kind == Kind::kHuge) && lanes.intact());
    });
  });
  for (size_t i = done * c.cols; i < out.size(); i++) out[i] = 0;
  out.insert(out.end(), elements.begin(), elements.end());
  return out;
}
template <class T, bool weighted>
Expected expect_backward_rows(const Case<T>& c) {
  Expected out, elements(2 * c.cols, {0, 0});
  for (size_t row = 0; row < c.rows; row++) {
    const Statistic& s = c.saved[row];
    const double n = static_cast<double>(c.cols);
    Near h_mean = {0, 0}, h_xhat_mean = {0, 0};
    const auto x_hat = [&](size_t j) { return line(at(c.x, row * c.stride + j), s.mean, s.rstd, -(s.rest * s.rstd)); };
    const auto h = [&](size_t j) { return at(c.dy, row * c.stride + j) * (weighted ? at(c.weight, j) : 1); };
    for (size_t j = 0; j < c.cols; j++) {
      h_mean = plus(h_mean, h(j) / n);
      h_xhat_mean = plus(h_xhat_mean, times(x_hat(j), h(j) / n));
      const double dy = at(c.dy, row * c.stride + j);
      elements[j] = plus(elements[j], dy);
      elements[c.cols + j] = plus(elements[c.cols + j], times(x_hat(j), dy));
    }
    for (size_t j = 0; j < c.cols; j++) {
      const Near of_x = x_hat(j);
      const double value = s.rstd * (h(j) - h_mean.value - of_x.value * h_xhat_mean.value);
      out.push_back({value, s.rstd * (fabs(h(j)) + h_mean.size + of_x.size * h_xhat_mean.size)});
    }
  }
  elements = started(elements, c);
  out.insert(out.end(), elements.begin(), elements.end());
  return out;
}

constexpr About kMean = About::kMean, kZero = About::kZero;

template <class T>
const Kernel<T> kKernels[] = {
    {"moments", moments<T, kMean>, expect_moments<T, kMean>, true, false, false},
    {"moments about 0", moments<T, kZero>, expect_moments<T, kZero>, true, false, false},
    {"moments_columns", moments_columns<T, kMean>, expect_moments_columns<T, kMean>, true, false, false},
    {"moments_columns about 0", moments_columns<T, kZero>, expect_moments_columns<T, kZero>, true, false, false},
    {"apply_runs", apply_runs<T, End::kPlain, kCached>, expect_apply_runs<T, End::kPlain>, false, true, false},
    {"apply_runs streamed", apply_runs<T, End::kPlain, kStreamed>, expect_apply_runs<T, End::kPlain>, false, true,
     false},
    {"apply_runs add", apply_runs<T, End::kAdd, kCached>, expect_apply_runs<T, End::kAdd>, false, true, false},
    {"apply_runs add relu", apply_runs<T, End::kRelu, kStreamed>, expect_apply_runs<T, End::kRelu>, false, true, false},
    {"gate_runs", apply_runs<T, End::kGate, kCached>, expect_apply_runs<T, End::kGate>, false, false, true},
    {"gate_runs add", apply_runs<T, End::kAddGate, kCached>, expect_apply_runs<T, End::kAddGate>, false, false, true},
    {"apply_elements", apply_elements<T, false, false, End::kPlain>,
     expect_apply_elements<T, false, false, End::kPlain>, false, true, false},
    {"apply_elements add relu", apply_elements<T, false, false, End::kRelu>,
     expect_apply_elements<T, false, false, End::kRelu>, false, true, false},
    {"apply_elements gate", apply_elements<T, false, false, End::kGate>,
     expect_apply_elements<T, false, false, End::kGate>, false, false, true},
    {"apply_elements add gate", apply_elements<T, false, false, End::kAddGate>,
     expect_apply_elements<T, false, false, End::kAddGate>, false, false, true},
    {"apply_elements w", apply_elements<T, true, false, End::kPlain>,
     expect_apply_elements<T, true, false, End::kPlain>, false, true, false},
    {"apply_elements w add relu", apply_elements<T, true, false, End::kRelu>,
     expect_apply_elements<T, true, false, End::kRelu>, false, true, false},
    {"apply_elements w gate", apply_elements<T, true, false, End::kGate>,
     expect_apply_elements<T, true, false, End::kGate>, false, false, true},
    {"apply_elements w add gate", apply_elements<T, true, false, End::kAddGate>,
     expect_apply_elements<T, true, false, End::kAddGate>, false, false, true},
    {"apply_elements b", apply_elements<T, false, true, End::kPlain>,
     expect_apply_elements<T, false, true, End::kPlain>, false, true, false},
    {"apply_elements b add relu", apply_elements<T, false, true, End::kRelu>,
     expect_apply_elements<T, false, true, End::kRelu>, false, true, false},
    {"apply_elements b gate", apply_elements<T, false, true, End::kGate>,
     expect_apply_elements<T, false, true, End::kGate>, false, false, true},
    {"apply_elements b add gate", apply_elements<T, false, true, End::kAddGate>,
     expect_apply_elements<T, false, true, End::kAddGate>, false, false, true},
    {"apply_elements w b", apply_elements<T, true, true, End::kPlain>,
     expect_apply_elements<T, true, true, End::kPlain>, false, true, false},
    {"apply_elements w b add", apply_elements<T, true, true, End::kAdd>,
     expect_apply_elements<T, true, true, End::kAdd>, false, true, false},
    {"apply_elements w b add relu", apply_elements<T, true, true, End::kRelu>,
     expect_apply_elements<T, true, true, End::kRelu>, false, true, false},
    {"apply_elements w b gate", apply_elements<T, true, true, End::kGate>,
     expect_apply_elements<T, true, true, End::kGate>, false, false, true},
    {"apply_elements w b add gate", apply_elements<T, true, true, End::kAddGate>,
     expect_apply_elements<T, true, true, End::kAddGate>, false, false, true},
    {"apply_columns", apply_columns<T, End::kPlain, kCached>, expect_apply_columns<T, false, End::kPlain>, false, true,
     false},
    {"apply_columns streamed", apply_columns<T, End::kPlain, kStreamed>, expect_apply_columns<T, false, End::kPlain>,
     false, true, false},
    {"apply_columns add relu", apply_columns<T, End::kRelu, kCached>, expect_apply_columns<T, false, End::kRelu>, false,
     true, false},
    {"apply_by_row", apply_by_row<T, false, End::kPlain>, expect_apply_columns<T, false, End::kPlain>, false, true,
     false},
    {"gate_by_row", apply_by_row<T, false, End::kGate>, expect_apply_columns<T, false, End::kGate>, false, false, true},
    {"apply_by_row weighted", apply_by_row<T, true, End::kPlain>, expect_apply_columns<T, true, End::kPlain>, false,
     true, false},
    {"apply_by_row weighted add", apply_by_row<T, true, End::kAdd>, expect_apply_columns<T, true, End::kAdd>, false,
     true, false},
    {"apply_by_row weighted add relu", apply_by_row<T, true, End::kRelu>, expect_apply_columns<T, true, End::kRelu>,
     false, true, false},
    {"apply_by_row weighted gate", apply_by_row<T, true, End::kGate>, expect_apply_columns<T, true, End::kGate>, false,
     false, true},
    {"apply_by_row weighted add gate", apply_by_row<T, true, End::kAddGate>,
     expect_apply_columns<T, true, End::kAddGate>, false, false, true},
    {"grad_sums", grad_sums<T>, expect_grad_sums<T>, true, false, false},
    {"grad_elements", grad_elements<T, false>, expect_grad_elements<T, false>, true, false, false},
    {"grad_elements w", grad_elements<T, true>, expect_grad_elements<T, true>, true, false, false},
    {"grad_sums_row", grad_sums_row<T>, expect_grad_sums_row<T>, true, false, false},
    {"grad_columns", grad_columns<T, false>, expect_grad_columns<T, false>, true, false, false},
    {"grad_columns by row", grad_columns<T, true>, expect_grad_columns<T, true>, true, false, false},
    {"slope_runs", slope_runs<T, kCached>, expect_slope_runs<T>, false, true, true},
    {"slope_runs streamed", slope_runs<T, kStreamed>, expect_slope_runs<T>, false, true, true},
    {"slope_elements", slope_elements<T, false>, expect_slope_elements<T, false>, false, true, true},
    {"slope_elements w", slope_elements<T, true>, expect_slope_elements<T, true>, false, true, true},
    {"slope_columns", slope_columns<T, kCached>, expect_slope_columns<T, false>, false, true, true},
    {"slope_columns streamed", slope_columns<T, kStreamed>, expect_slope_columns<T, false>, false, true, true},
    {"slope_by_row", slope_by_row<T>, expect_slope_columns<T, true>, false, true, true},
    {"normalize_rows", normalize_rows<T, kMean, true>, expect_normalize_rows<T, kMean, true>, true, true, false, true},
    {"normalize_rows plain", normalize_rows<T, kMean, false>, expect_normalize_rows<T, kMean, false>, true, true, false,
     true},
    {"normalize_rows about 0", normalize_rows<T, kZero, true>, expect_normalize_rows<T, kZero, true>, true, true, false,
     true},
    {"backward_rows", backward_rows<T, false>, expect_backward_rows<T, false>, true, true, true, true},
    {"backward_rows w", backward_rows<T, true>, expect_backward_rows<T, true>, true, true, true, true},
};

// A few roundings for each term, and those of a sum: float lanes take at most kChain = 24 terms (lanes-inl.h) before
// they are emptied into double, so 13 eps; the rest is for the shift of a mean. The reference rounds `count` times.
template <class T>
double worst(const Kernel<T>& kernel, const Case<T>& c, const Values& values) {
  const double count = static_cast<double>(c.rows * c.cols);
  const double eps = static_cast<double>(std::numeric_limits<T>::epsilon());
  const double least = static_cast<double>(std::numeric_limits<T>::denorm_min());
  const double relative = kernel.sums ? 24 * eps + count * DBL_EPSILON : 4 * eps;
  double most = 0;
  const Expected expected = kernel.expect(c);
  for (size_t i = 0; i < expected.size(); i++) {
    const double bound = expected[i].size * relative + (count + 4) * least;
    const double share = fabs(values[i] - expected[i].value) / bound;
    if (!(share <= most)) most = share;
  }
  return most;
}

template <class T>
void check(const Case<T>& c) {
  const size_t portable = dispatch::count() - 1;
  for (const Kernel<T>& kernel : kKernels<T>) {
    const Values plain = kernel.run(dispatch::table(portable).of(T()), c, Place::kApart);
    const auto label = [&](const char* isa, char* text) {
      snprintf(text, 200, "%s %s %s, %s data, %zu x %zu by %zu", isa, sizeof(T) == 4 ? "float" : "double", kernel.name,
               test::name(c.kind), c.rows, c.cols, c.stride);
      return text;
    };
    char text[200];
    const Kind beyond = sizeof(T) == sizeof(float) ? Kind::kHuge : Kind::kDenormal;
    const bool left = kernel.leaves_rows && c.kind == beyond;
    if (test::finite(c.kind) && !left) {
      const double error = worst(kernel, c, plain);
      CHECK(error <= 1, "%s: %.3g times its bound", label("reference", text), error);
    }
    for (size_t isa = 0; isa <= portable; isa++) {
      if (!dispatch::supported(isa)) continue;
      const KernelTable& table = dispatch::table(isa);
      for (const Place place : {Place::kApart, Place::kOverX, Place::kOverDy}) {
        if ((place == Place::kOverX && !kernel.over_x) || (place == Place::kOverDy && !kernel.over_dy)) continue;
        const Values values = kernel.run(table.of(T()), c, place);
        CHECK(test::same(plain, values), "%s, place %d: value %zu", label(table.name, text), static_cast<int>(place),
              test::difference(plain, values));
      }
    }
  }
  CHECK(c.x.intact() && c.dy.intact() && c.center.intact() && c.by_row.intact(), "inputs are only read");
}

constexpr size_t kSizes[] = {1,  2,  3,  7,  8,   9,   15,  16,  17,   31,   32,   33,
                             47, 63, 64, 65, 100, 127, 128, 129, 1000, 1023, 4095, 4096};

template <class T, class F>
void each_case(F f) {
  for (size_t kind = 0; kind < static_cast<size_t>(Kind::kCount); kind++) {
    for (const size_t n : kSizes) {
      const Kind k = static_cast<Kind>(kind);
      f(Case<T>(k, 1, n, n));
      f(Case<T>(k, 3, n, n + 5));
      if (n > 1 && n <= 1023) f(Case<T>(k, n, 3, 3));
      if (n <= 129) f(Case<T>(k, n, 19, 21));
    }
  }
}

// Where the data lie in their lines decides which loads are whole, and no bit.
template <class T>
void places_in_a_line() {
  test::Random random(11);
  for (const size_t n : {500, 767, 768, 769, 3000, 4096}) {
    std::vector<T> x(n), dy(n), weight(n);
    for (std::vector<T>* values : {&x, &dy, &weight}) {
      for (T& v : *values) v = static_cast<T>(random.normal());
    }
    for (size_t isa = 0; isa < dispatch::count(); isa++) {
      if (!dispatch::supported(isa)) continue;
      const Kernels<T>& k = dispatch::table(isa).of(T());
      Values first;
      for (size_t off = 0; off < 16; off++) {
        std::vector<T> a(n + 16), b(n + 16), y(n + 16), lanes_dy(n + 16), lanes_dy_xhat(n + 16);
        std::copy(x.begin(), x.end(), a.begin() + static_cast<ptrdiff_t>(off));
        std::copy(dy.begin(), dy.end(), b.begin() + static_cast<ptrdiff_t>(off));
        const T *p = a.data() + off, *q = b.data() + off;
        const Moments m = k.moments(p, 0, 1, n, About::kMean, 0);
        const GradSums s = k.grad_sums(q, p, 0, 1, n, x[0], T(0.5), 0);
        const GradSums h = k.grad_elements(q, p, n, {x[0], T(0.5), T(0.25)}, weight.data(), lanes_dy.data() + off,
                                           lanes_dy_xhat.data() + off, 0);
        Values values = {m.mean, m.mean_low, m.m2, s.dy, s.dy_xhat, h.dy, h.dy_xhat};
        for (const Stores stores : {kCached, kStreamed}) {
          const Affine<T> f = {x[0], T(0.5), T(0.25)};
          k.apply_runs(y.data() + off, p, n, 1, &f, {nullptr, false}, stores, 0);
          for (const std::vector<T>* out : {&y, &lanes_dy, &lanes_dy_xhat}) {
            for (size_t i = 0; i < n; i++) values.push_back(static_cast<double>((*out)[off + i]));
          }
        }
        if (off == 0) first = values;
        CHECK(test::same(first, values), "%s, %zu elements, %zu behind: value %zu", dispatch::table(isa).name, n, off,
              test::difference(first, values));
      }
    }
  }
}

template <class T>
void digest(const KernelTable& table, test::Digest* out) {
  each_case<T>([&](const Case<T>& c) {
    for (const Kernel<T>& kernel : kKernels<T>) out->add(kernel.run(table.of(T()), c, Place::kApart));
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
      printf("digest kernels %s %016llx\n", dispatch::table(isa).name, static_cast<unsigned long long>(sum.get()));
    }
    return 0;
  }
  each_case<float>(check<float>);
  each_case<double>(check<double>);
  places_in_a_line<float>();
  places_in_a_line<double>();
  return test::finish();
}
