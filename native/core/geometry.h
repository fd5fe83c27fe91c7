// The one view that every normalization shares: a tensor read as [batch][outer][groups][inner].
// One mean and one variance per (batch, group), over `outer` and `inner`; `run` consecutive elements share a channel,
// channel(e) = (e / run) % channels.
// No layer is known by name here or anywhere below lib/.
#ifndef SIMDNORM_CORE_GEOMETRY_H_
#define SIMDNORM_CORE_GEOMETRY_H_

#include <stddef.h>
#include <stdint.h>

namespace simdnorm {

// The largest size: a double holds it, and where size_t has 32 bits (WebAssembly), the sixteenfold still fits.
constexpr size_t kMost = sizeof(size_t) == 8 ? static_cast<size_t>(uint64_t(1) << 53) : size_t(1) << 28;
#if !defined(__LP64__) && !defined(_WIN64) && !defined(__wasm__)
#error "simdnorm needs a 64-bit target or WebAssembly: an x87 register would change the bits"
#endif

struct Geometry {
  size_t batch, outer, groups, inner, run, channels;

  size_t statistics() const { return batch * groups; }
  size_t count() const { return outer * inner; }    // values behind one statistic
  size_t stride() const { return groups * inner; }  // between two `outer` steps
  size_t elements() const { return batch * outer * stride(); }
  // Where statistic s begins.
  size_t begin(size_t s) const { return (s / groups) * outer * stride() + (s % groups) * inner; }
  size_t channels_per_group() const { return inner / run; }

  // Each row of an [outer][groups] matrix has a channel of its own: LayerNorm over an axis that is not the last.
  bool channel_by_row() const { return inner == 1 && run > 1 && run == groups && channels == outer; }
  // Lanes run along the data, or across the columns of an [outer][groups * inner] matrix.
  bool columns() const { return channel_by_row() || (run == 1 && (outer > 1 || (inner == 1 && groups > 1))); }

  // What the ops rely on. Sizes are at most kMost and their products are formed here with a check.
  bool valid() const {
    if (run == 0 || channels == 0) return false;
    size_t step, all;
    if (!product(groups, inner, &step) || !product(run, channels, &all)) return false;
    if (!channel_by_row() && (inner % run != 0 || step != all)) return false;
    if (!product(batch, outer, &all) || !product(all, step, &all)) return false;
    return product(batch, groups, &all) && product(all, 8, &all);  // room for a record of each statistic
  }

  static bool product(size_t a, size_t b, size_t* out) { return !__builtin_mul_overflow(a, b, out) && *out <= kMost; }
};

}  // namespace simdnorm

#endif  // SIMDNORM_CORE_GEOMETRY_H_
