#include "native/ops/statistics.h"

#include <math.h>

#include "native/parallel/float_environment.h"

namespace simdnorm {
namespace {

// An infinite or NaN mean as a plain sum would give it: NaN if there is one or if infinities of both signs meet, else
// the infinity. The merges, made of differences, only know NaN. Where all data are finite (float64 beyond 1e154), the
// overflow stands.
template <class S>
double non_finite_mean(const S* x, size_t stride, size_t pieces, size_t n, double as_is) {
  double found = 0;
  for (size_t piece = 0; piece < pieces; piece++) {
    for (size_t i = 0; i < n; i++) {
      const double v = wide(x[piece * stride + i]);
      if (isfinite(v)) continue;
      if (isnan(v) || (found != 0 && found != v)) return NAN;
      found = v;
    }
  }
  return found == 0 ? as_is : found;
}

template <class S>
void mend_mean(Moments& m, const S* x, size_t stride, size_t pieces, size_t n) {
  if (m.count > 0 && !isfinite(m.mean)) m.mean = non_finite_mean(x, stride, pieces, n, m.mean);
}

// The power of two that brings the largest distance from the origin near 1, as far as doubles reach; 1 where there is
// none to bring: constants, and data that are not finite.
template <class S>
double natural_scale(const S* x, size_t stride, size_t pieces, size_t n, const Rule& rule) {
  const double origin = rule.about == About::kZero ? 0 : wide(x[0]) / 2;
  double most = 0;
  for (size_t piece = 0; piece < pieces; piece++) {
    for (size_t i = 0; i < n; i++) {
      const double distance = fabs(wide(x[piece * stride + i]) / 2 - origin);
      if (!isfinite(distance)) return 1;
      if (distance > most) most = distance;
    }
  }
  if (most == 0) return 1;
  // eps is scaled too, and must stay finite.
  const int exponent = ilogb(rule.eps > 0 && most < sqrt(rule.eps) ? sqrt(rule.eps) : most);
  return ldexp(1, exponent < -1000 ? 1000 : -exponent);
}

// Moments of scale * x, in two passes.
template <class S>
Moments scaled_moments(const S* x, size_t stride, size_t pieces, size_t n, About about, double scale) {
  const double count = static_cast<double>(pieces) * static_cast<double>(n);
  const auto sum = [&](auto term) {
    double total = 0;
    for (size_t piece = 0; piece < pieces; piece++) {
      for (size_t i = 0; i < n; i++) total += term(wide(x[piece * stride + i]) * scale);
    }
    return total;
  };
  const double first = about == About::kZero ? 0 : wide(x[0]) * scale;
  const double mean = about == About::kZero ? 0 : first + sum([&](double v) { return v - first; }) / count;
  return {count, mean, 0, sum([&](double v) { return (v - mean) * (v - mean); }), 0};
}

}  // namespace

template <class S>
Statistic statistic_of(const Moments& m, const Rule& rule, const S* x, size_t stride, size_t pieces, size_t n) {
  using T = Value<S>;
  const Statistic s = statistic_of_moments<T>(m, rule);
  const double under_root = s.var + rule.eps;
  if (sizeof(T) == sizeof(double) && !(under_root > 0x1p-900 && under_root < 0x1p900)) {
    const double scale = natural_scale(x, stride, pieces, n, rule);
    if (scale == 1) return s;
    const Moments scaled = scaled_moments(x, stride, pieces, n, rule.about, scale);
    const double var = scaled.m2 / scaled.count;
    return {scaled.mean, 0, var, rstd_of(var, rule.eps * scale * scale, rule), scale};
  }
  return s;
}

template <class T>
Statistic statistic_of_running(T mean, T var, const Rule& rule) {
  const double v = static_cast<double>(var);
  return {static_cast<double>(mean), 0, v, 1 / sqrt(v + rule.eps), 1};
}

template <class S>
Moments reduce_rows(const Kernels<S>& k, const S* x, const Blocks& blocks, About about, const parallel::Team& team,
                    Moments* units) {
  const auto unit_of = [&](size_t unit) {
    Moments m = {0, 0, 0, 0, 0};
    blocks.each(unit, [&](Blocks::Block b) {
      merge(m, k.moments(x + b.offset, blocks.stride(), b.pieces, b.n, about, blocks.ahead()));
    });
    return m;
  };
  Moments m;
  if (blocks.units() == 1) {
    m = unit_of(0);
  } else {
    const bool shared = team.size() > 1;
    if (shared) {
      team.for_each(blocks.units(), 1, [&](size_t begin, size_t end, size_t) {
        for (size_t u = begin; u < end; u++) units[u] = unit_of(u);
      });
    }
    Cascade<Moments> all;
    for (size_t u = 0; u < blocks.units(); u++) all.push(shared ? units[u] : unit_of(u));
    m = all.finish();
  }
  mend_mean(m, x, blocks.stride(), blocks.pieces(), blocks.length());
  return m;
}

template <class S>
void reduce_columns(const Kernels<S>& k, const S* x, const Geometry& g, const Rule& rule, const parallel::Team& team,
                    double* units, Moments* groups) {
  const size_t cols = g.stride();
  const ColumnBlocks blocks(g.outer);
  const auto part = [&](size_t u) {
    double* p = units + u * 4 * cols;
    return Spread<double*>{p, p + cols, p + 2 * cols, p + 3 * cols};
  };
  team.for_each(blocks.units(), 1, [&](size_t begin, size_t end, size_t) {
    for (size_t u = begin; u < end; u++) {
      k.moments_columns(x + blocks.first(u) * cols, {blocks.rows(u), cols, cols}, rule.about, part(u));
    }
  });
  for (size_t step = 1; step < blocks.units(); step *= 2) {
    for (size_t u = 0; u + step < blocks.units(); u += 2 * step) {
      k.merge_columns(part(u), static_cast<double>(blocks.rows(u, step)), part(u + step),
                      static_cast<double>(blocks.rows(u + step, step)), cols);
    }
  }
  const Spread<double*> all = part(0);
  const double rows = static_cast<double>(g.outer);
  for (size_t group = 0; group < g.groups; group++) {
    Cascade<Moments> columns;
    for (size_t j = group * g.inner; j < (group + 1) * g.inner; j++) {
      columns.push({rows, all.mean[j], all.mean_low[j], all.m2[j], all.m2_low[j]});
    }
    groups[group] = columns.finish();
    mend_mean(groups[group], x + group * g.inner, cols, g.outer, g.inner);
  }
}

template <class S>
Status all_moments(const Kernels<S>& k, const Geometry& g, const S* x, About about, Moments* out) {
  const FloatEnvironment environment;
  const parallel::Team team(g.elements() * sizeof(S) < kAloneBytes);
  if (g.columns()) {
    const Scratch<double> units(ColumnBlocks(g.outer).units() * 4 * g.stride());
    if (!units.ok()) return Status::kOutOfMemory;
    const Rule rule = {0, about, false};
    for (size_t b = 0; b < g.batch; b++) {
      reduce_columns(k, x + b * g.outer * g.stride(), g, rule, team, units.get(), out + b * g.groups);
    }
    return Status::kOk;
  }
  const Blocks blocks = row_blocks(g, g.elements() * sizeof(S));
  const Scratch<Moments> units(blocks.units());
  if (!units.ok()) return Status::kOutOfMemory;
  for (size_t s = 0; s < g.statistics(); s++) {
    out[s] = reduce_rows(k, x + g.begin(s), blocks, about, team, units.get());
  }
  return Status::kOk;
}

template <class T>
void statistics_of_parts(const Moments* parts, size_t count, size_t groups, const Rule& rule, Statistic* out) {
  const FloatEnvironment environment;
  for (size_t g = 0; g < groups; g++) {
    Cascade<Moments> all;
    double odd = 0;  // the sum of means that are not finite, which merges only know as NaN
    for (size_t i = 0; i < count; i++) {
      const Moments& part = parts[i * groups + g];
      if (part.count > 0 && !isfinite(part.mean)) odd += part.mean;
      all.push(part);
    }
    Moments m = all.finish();
    if (!isfinite(m.mean) && odd != 0) m.mean = odd;
    out[g] = statistic_of_moments<T>(m, rule);
  }
}

template <class T>
void update_running(const Geometry& g, const Statistic* stats, const double* counts, double momentum, T* mean, T* var) {
  const double batch = static_cast<double>(g.batch);
  for (size_t c = 0; c < g.groups; c++) {
    double batch_mean = 0, batch_var = 0;
    for (size_t b = 0; b < g.batch; b++) {
      const Statistic& s = stats[b * g.groups + c];
      const double n = counts ? counts[b] : static_cast<double>(g.count());
      batch_mean += (s.mean + s.rest) / s.scale;
      batch_var += s.var * (n / (n - 1)) / s.scale / s.scale;
    }
    const auto blend = [&](T old, double now) {
      return static_cast<T>(momentum * (now / batch) + (1 - momentum) * static_cast<double>(old));
    };
    if (mean) mean[c] = blend(mean[c], batch_mean);
    if (var) var[c] = blend(var[c], batch_var);
  }
}

#define SIMDNORM_INSTANTIATE(S)                                                                                        \
  template Statistic statistic_of<S>(const Moments&, const Rule&, const S*, size_t, size_t, size_t);                   \
  template Moments reduce_rows<S>(const Kernels<S>&, const S*, const Blocks&, About, const parallel::Team&, Moments*); \
  template void reduce_columns<S>(const Kernels<S>&, const S*, const Geometry&, const Rule&, const parallel::Team&,    \
                                  double*, Moments*);                                                                  \
  template Status all_moments<S>(const Kernels<S>&, const Geometry&, const S*, About, Moments*);
SIMDNORM_INSTANTIATE(float)
SIMDNORM_INSTANTIATE(double)
SIMDNORM_INSTANTIATE(Float16)
SIMDNORM_INSTANTIATE(BFloat16)
template Statistic statistic_of_running<float>(float, float, const Rule&);
template Statistic statistic_of_running<double>(double, double, const Rule&);
template void statistics_of_parts<float>(const Moments*, size_t, size_t, const Rule&, Statistic*);
template void statistics_of_parts<double>(const Moments*, size_t, size_t, const Rule&, Statistic*);
template void update_running<float>(const Geometry&, const Statistic*, const double*, double, float*, float*);
template void update_running<double>(const Geometry&, const Statistic*, const double*, double, double*, double*);

}  // namespace simdnorm
