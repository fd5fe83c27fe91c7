// y = relu(xHat * weight + bias + add) the way the ops take it where the kernels cannot: forward makes y by it, and
// backward finds by the same arithmetic what the ReLU let through.
#ifndef SIMDNORM_OPS_OUTPUT_H_
#define SIMDNORM_OPS_OUTPUT_H_

#include "native/ops/statistics.h"

namespace simdnorm {

// Before the ReLU, in double: for statistics that T cannot work with.
template <class S>
double y_in_double(S x, const Statistic& s, Value<S> weight, Value<S> bias, const S* add) {
  const double y = x_hat_in_double(x, s) * static_cast<double>(weight) + static_cast<double>(bias);
  return add ? y + wide(*add) : y;
}

// Before the ReLU, as the kernels have it: for ordinary columns beside those that T cannot work with, because a channel
// must not depend on its neighbours.
template <class S>
Value<S> y_of_column(S x, const AffineColumns<Value<S>>& f, size_t column, size_t row, const S* add) {
  Value<S> y = (value_of(x) - f.center[column]) * f.scale[column] + f.shift[column];
  if (f.row_weight) y = y * f.row_weight[row];
  if (f.row_bias) y = y + f.row_bias[row];
  return add ? y + value_of(*add) : y;
}

}  // namespace simdnorm

#endif  // SIMDNORM_OPS_OUTPUT_H_
