// The exported functions: translate, call, translate. Each returns a number (0, or a fault; see arguments.h) and makes
// no JavaScript object and no error: under jest and vm a native one belongs to another realm.
#include <napi.h>
#include <string.h>

#include <atomic>
#include <memory>
#include <new>

#include "native/bindings/arguments.h"
#include "native/bindings/memory.h"
#include "native/dispatch/dispatch.h"
#include "native/headers/identity.h"
#include "native/ops/backward.h"
#include "native/ops/images.h"
#include "native/ops/local_response.h"
#include "native/ops/normalize.h"
#include "native/ops/tally.h"
#include "native/parallel/float_environment.h"

#ifndef __wasm__
#include "native/bindings/async.h"
#include "native/bindings/mpi.h"
#include "native/bindings/stay_loaded.h"
#endif

namespace simdnorm {
namespace {

// The numbers of a parameter block, argument 0 of forward and backward; lib/internal/addon.ts has the same list.
enum Block {
  kGeometry = 0,
  kOffsetX = 6,
  kOffsetY = 7,
  kOffsetDy = 8,
  kOffsetAdd = 9,
  kEps = 10,
  kMomentum = 11,
  kFlags = 12,
  kGiven = 13,
  kValues = 14,
  kBlock_ = 15
};
// kFlags is a sum of these.
enum Flags {
  kAboutZero = 1,
  kZeroVarIsZero = 2,
  kUseRunning = 4,
  kKeepsInput = 8,
  kRelu = 16,
  kBFloat16 = 32,
  kUseSaved = 64
};
static_assert(kGeometry == 0, "Arguments::geometry reads numbers 0 to 5");
static_assert(sizeof(Statistic) == 5 * sizeof(double), "saved statistics are five doubles each");
static_assert(sizeof(Moments) == 5 * sizeof(double), "moments are five doubles each");

// The numbers of a block of images; the same list is there. Each of kOrder, kMean and kStd is four numbers.
enum ImageBlock {
  kCount = 0,
  kHeight,
  kWidth,
  kStep,
  kRowStride,
  kImageStride,
  kTaken,
  kPlanar,
  kOffsetTensor,
  kImageFlags,
  kOrder,
  kImageMean = kOrder + 4,
  kImageStd = kImageMean + 4,
  kImageBlock_ = kImageStd + 4
};

napi_value number(napi_env env, double n) {
  napi_value value = nullptr;
  napi_create_double(env, n, &value);
  return value;
}

int finish(Arguments& a, Status status) { return status == Status::kOk ? 0 : a.fail(Fault::kMemory, 0); }

// forward(block, x, y, weight, bias, saved, runningMean, runningVar, add)
template <class S>
int read_forward(Arguments& a, Normalize<S>* read) {
  using T = Value<S>;
  enum { kX = 1, kY, kWeight, kBias, kSaved, kMean, kVar, kAdd };
  Normalize<S>& op = *read;
  const Geometry g = a.geometry();
  const size_t x_offset = a.size(kOffsetX), y_offset = a.size(kOffsetY), add_offset = a.size(kOffsetAdd);
  const size_t flags = a.size(kFlags);
  a.give(a.size(kGiven));
  if (!a.ok()) return a.fault();
  op.g = g;
  op.rule = {a.number(kEps), flags & kAboutZero ? About::kZero : About::kMean, (flags & kZeroVarIsZero) != 0};
  op.use_running = (flags & (kUseRunning | kUseSaved)) != 0;
  op.momentum = a.number(kMomentum);
  op.count = a.number(kValues);
  op.x = a.span<S>(kX, g.elements(), x_offset);
  op.y = a.span<S>(kY, g.elements(), y_offset);
  op.weight = a.optional<T>(kWeight, g.channels);
  op.bias = a.optional<T>(kBias, g.channels);
  op.saved = reinterpret_cast<Statistic*>(a.optional<double>(kSaved, g.statistics() * 5));
  op.running_mean = a.optional<T>(kMean, g.groups);
  op.running_var = a.optional<T>(kVar, g.groups);
  op.finish = {a.given(kAdd) ? a.span<S>(kAdd, g.elements(), add_offset) : nullptr, (flags & kRelu) != 0};
  if (flags & kUseSaved) {
    op.running_mean = op.running_var = nullptr;
    if (a.ok() && g.statistics() > 0 && !op.saved) a.fail(Fault::kType, kSaved);
  } else if (a.ok() && op.use_running && g.groups > 0 && !(op.running_mean && op.running_var)) {
    a.fail(Fault::kType, op.running_mean ? kVar : kMean);
  }
  a.output(kY);
  a.output(kSaved);
  if (!op.use_running) {
    a.output(kMean);
    a.output(kVar);
  }
  // Two SharedArrayBuffers can name one memory: only the pointers tell whether an input that backward needs is kept.
  const auto in_place = [](size_t out, size_t other) { return out == kY && (other == kX || other == kAdd); };
  const auto over_add = [](size_t out, size_t other) { return out == kY && other == kAdd; };
  const auto apart = [](size_t, size_t) { return false; };
  // Backward needs what was added behind a ReLU only.
  const bool keeps = (flags & kKeepsInput) != 0;
  if (!(!keeps ? a.check_overlaps(in_place) : op.finish.relu ? a.check_overlaps(apart) : a.check_overlaps(over_add))) {
    return a.fault();
  }
  return 0;
}

template <class S>
Status run(const Normalize<S>& op) {
  return normalize(dispatch::active().of(S()), op);
}
template <class S>
int forward_as(Arguments& a) {
  Normalize<S> op;
  if (read_forward(a, &op) != 0 || op.g.elements() == 0) return a.fault();
  return finish(a, run(op));
}

// backward(block, dy, x, dx, weight, saved, dweight, dbias, gated, add, bias, sums): add and bias behind a ReLU only;
// gated takes the gradient of what was added, which without a ReLU is dy. With sums x is a part: see Backward in
// native/ops/backward.h, where they are `sums` without dx, and `totals` with it.
template <class S>
int backward_as(Arguments& a) {
  using T = Value<S>;
  enum { kDy = 1, kX, kDx, kWeight, kSaved, kDweight, kDbias, kGated, kAdd, kBias, kSums };
  const Geometry g = a.geometry();
  const size_t dy_offset = a.size(kOffsetDy), x_offset = a.size(kOffsetX), dx_offset = a.size(kOffsetY);
  const size_t add_offset = a.size(kOffsetAdd), flags = a.size(kFlags);
  a.give(a.size(kGiven));
  if (!a.ok()) return a.fault();
  Backward<S> op;
  op.g = g;
  op.about = flags & kAboutZero ? About::kZero : About::kMean;
  op.constant = (flags & kUseRunning) != 0;
  op.dy = a.span<S>(kDy, g.elements(), dy_offset);
  op.x = a.span<S>(kX, g.elements(), x_offset);
  op.dx = a.given(kDx) ? a.span<S>(kDx, g.elements(), dx_offset) : nullptr;
  op.weight = a.optional<T>(kWeight, g.channels);
  op.saved = reinterpret_cast<const Statistic*>(a.span<double>(kSaved, g.statistics() * 5));
  op.dweight = a.optional<T>(kDweight, g.channels);
  op.dbias = a.optional<T>(kDbias, g.channels);
  const bool relu = (flags & kRelu) != 0;
  // Without an array of its own, what the gate lets through goes where dx will be.
  S* const gated = a.given(kGated) ? a.span<S>(kGated, g.elements()) : nullptr;
  op.gated = !relu ? nullptr : gated ? gated : op.dx;
  op.add = relu && a.given(kAdd) ? a.span<S>(kAdd, g.elements(), add_offset) : nullptr;
  op.bias = relu ? a.optional<T>(kBias, g.channels) : nullptr;
  double* const sums = a.optional<double>(kSums, (op.dx ? 4 : 2) * g.channels);
  op.sums = op.dx ? nullptr : sums;
  op.totals = op.dx ? sums : nullptr;
  op.count = a.number(kValues);
  if (sums && (g.batch != 1 || g.groups != g.channels)) a.fail(Fault::kNumber, 0);
  if (op.sums) a.output(kSums);
  for (const size_t out : {kDx, kDweight, kDbias, kGated}) a.output(out);
  // dx over x is fine where nothing reads x afterwards, so not where the gate goes there first.
  const auto over_dy = [](size_t out, size_t other) { return (out == kDx || out == kGated) && other == kDy; };
  const auto over_either = [](size_t out, size_t other) {
    return (out == kDx && (other == kDy || other == kX)) || (out == kGated && other == kDy);
  };
  if (a.ok() && relu && !op.gated && g.elements() > 0) a.fail(Fault::kType, kGated);
  if (!(op.gated && op.gated == op.dx ? a.check_overlaps(over_dy) : a.check_overlaps(over_either))) return a.fault();
  if (g.elements() == 0) return 0;
  // First, because dx may lie over dy.
  if (!relu && gated && gated != op.dy) memcpy(gated, op.dy, g.elements() * sizeof(S));
  return finish(a, backward(dispatch::active().of(S()), op));
}

// The numbers of a window's block; lib/internal/addon.ts has the same list.
enum WindowBlock {
  kOuter = 0,
  kChannels = 1,
  kInner = 2,
  kBefore = 3,
  kAfter = 4,
  kAtX = 5,
  kAtY = 6,
  kAtDy = 7,
  kAdded = 8,
  kScale = 9,
  kBeta = 10,
  kWindowFlags = 11,  // kKeepsInput and kBFloat16
  kWindow_ = 12
};

ChannelWindow window(Arguments& a) {
  const ChannelWindow w = {a.size(kOuter),  a.size(kChannels), a.size(kInner),
                           a.size(kBefore), a.size(kAfter),    {a.number(kAdded), a.number(kScale), a.number(kBeta)}};
  if (a.ok() && !w.valid()) a.fail(Fault::kNumber, 0);
  return w;
}

// localResponse(block, x, y)
template <class S>
int local_response_as(Arguments& a) {
  enum { kX = 1, kY };
  const ChannelWindow w = window(a);
  const size_t x_offset = a.size(kAtX), y_offset = a.size(kAtY);
  const bool kept = (a.size(kWindowFlags) & kKeepsInput) != 0;
  if (!a.ok()) return a.fault();
  const S* x = a.span<S>(kX, w.elements(), x_offset);
  S* y = a.span<S>(kY, w.elements(), y_offset);
  a.output(kY);
  const auto in_place = [](size_t, size_t) { return true; };
  const auto apart = [](size_t, size_t) { return false; };
  if (!(kept ? a.check_overlaps(apart) : a.check_overlaps(in_place))) return a.fault();
  return finish(a, local_response(dispatch::active().of(S()), w, x, y));
}

// localResponseBackward(block, dy, x, dx)
template <class S>
int local_response_backward_as(Arguments& a) {
  enum { kDy = 1, kX, kDx };
  const ChannelWindow w = window(a);
  const size_t dy_offset = a.size(kAtDy), x_offset = a.size(kAtX), dx_offset = a.size(kAtY);
  if (!a.ok()) return a.fault();
  const S* dy = a.span<S>(kDy, w.elements(), dy_offset);
  const S* x = a.span<S>(kX, w.elements(), x_offset);
  S* dx = a.span<S>(kDx, w.elements(), dx_offset);
  a.output(kDx);
  if (!a.check_overlaps([](size_t, size_t) { return true; })) return a.fault();
  return finish(a, local_response_backward(dispatch::active().of(S()), w, dy, x, dx));
}

// moments(block, x, out): five numbers for each (batch, group)
template <class S>
int moments_as(Arguments& a) {
  enum { kX = 1, kOut };
  const Geometry g = a.geometry();
  const size_t x_offset = a.size(kOffsetX), flags = a.size(kFlags);
  if (!a.ok()) return a.fault();
  const S* x = a.span<S>(kX, g.elements(), x_offset);
  double* out = a.span<double>(kOut, g.statistics() * 5);
  a.output(kOut);
  if (!a.check_overlaps([](size_t, size_t) { return false; })) return a.fault();
  for (size_t i = 0; i < g.statistics() * 5; i++) out[i] = 0;
  if (g.elements() == 0) return 0;
  const About about = flags & kAboutZero ? About::kZero : About::kMean;
  return finish(a, all_moments(dispatch::active().of(S()), g, x, about, reinterpret_cast<Moments*>(out)));
}

// statisticsOfParts(block, like, parts, out): of parts [batch][groups] of the geometry, five numbers each, for data of
// the type of `like`
template <class S>
int statistics_of_parts_as(Arguments& a) {
  enum { kParts = 2, kOut };
  const Geometry g = a.geometry();
  const size_t flags = a.size(kFlags);
  if (!a.ok()) return a.fault();
  const auto* parts = reinterpret_cast<const Moments*>(a.span<double>(kParts, g.statistics() * 5));
  auto* out = reinterpret_cast<Statistic*>(a.span<double>(kOut, g.groups * 5));
  a.output(kOut);
  if (!a.check_overlaps([](size_t, size_t) { return false; })) return a.fault();
  const Rule rule = {a.number(kEps), About::kMean, (flags & kZeroVarIsZero) != 0};
  statistics_of_parts<Value<S>>(parts, g.batch, g.groups, rule, out);
  return 0;
}

// updateRunning(block, mean, var, saved, counts): what forward does last, for callers that look at the statistics
// first. `counts` has the values behind each statistic of a batch item; of the geometry only batch and groups matter.
template <class S>
int update_running_as(Arguments& a) {
  using T = Value<S>;
  enum { kMean = 1, kVar, kSaved, kCounts };
  const Geometry g = a.geometry();
  a.give(a.size(kGiven));
  if (!a.ok()) return a.fault();
  T* mean = a.span<T>(kMean, g.groups);
  T* var = a.optional<T>(kVar, g.groups);
  const auto* saved = reinterpret_cast<const Statistic*>(a.span<double>(kSaved, g.statistics() * 5));
  const double* counts = a.span<double>(kCounts, g.batch);
  a.output(kMean);
  a.output(kVar);
  if (!a.check_overlaps([](size_t, size_t) { return false; })) return a.fault();
  if (g.statistics() == 0) return 0;
  const FloatEnvironment environment;
  update_running(g, saved, counts, a.number(kMomentum), mean, var);
  return 0;
}

// fromImages(block, tensor, images) fills the tensor from a list of Uint8Arrays, with `count` images in each, and
// toImages(block, tensor, bytes) the one Uint8Array.
template <class S>
struct ImageCall {
  Images images;
  double mean[4], std[4];
  S* tensor;
  size_t image_stride;
  std::unique_ptr<uint8_t*[]> starts;  // of all images
};
enum ImageArguments { kTensor = 1, kBytes };

// All but pointers. Returns the bytes that each of `arrays` arrays needs.
template <class S>
size_t read_sizes(Arguments& a, ImageCall<S>* call, size_t arrays) {
  Images& im = call->images;
  const size_t each = a.size(kCount);
  im = {0,
        a.size(kHeight),
        a.size(kWidth),
        a.size(kStep),
        a.size(kRowStride),
        a.size(kTaken),
        {0, 0, 0, 0},
        a.size(kPlanar) != 0};
  call->image_stride = a.size(kImageStride);
  bool right = im.step >= 1 && im.step <= 4 && im.channels >= 1 && im.channels <= im.step;
  for (size_t c = 0; right && c < im.channels; c++) {
    const size_t order = a.size(kOrder + c);
    right = order < im.step;
    im.order[c] = static_cast<uint8_t>(order);
    call->mean[c] = a.number(kImageMean + c);
    call->std[c] = a.number(kImageStd + c);
  }
  size_t row = 0, rows = 0, all = 0, elements = 0;
  right = right && Geometry::product(im.width, im.step, &row) && row <= im.row_stride &&
          Geometry::product(im.height, im.row_stride, &rows) && Geometry::product(each, call->image_stride, &all) &&
          Geometry::product(each, arrays, &im.count) && Geometry::product(im.height, im.width, &elements) &&
          Geometry::product(elements, im.channels, &elements) && Geometry::product(elements, im.count, &elements);
  // The last row ends with its last pixel, the last image with its last row.
  const size_t image = rows - im.row_stride + row;
  const bool any = right && elements > 0;
  right = right && (!any || each == 1 || call->image_stride >= image);
  if (a.ok() && !right) a.fail(Fault::kNumber, 0);
  return any ? all - call->image_stride + image : 0;
}

template <class S>
int place_images(Arguments& a, ImageCall<S>* call, size_t arrays, uint8_t* const* first) {
  const size_t count = call->images.elements() > 0 ? call->images.count : 0, each = count / arrays;
  call->starts.reset(new (std::nothrow) uint8_t*[count]);
  if (!call->starts) return a.fail(Fault::kMemory, 0);
  for (size_t i = 0; i < count; i++) call->starts[i] = first[i / each] + i % each * call->image_stride;
  return 0;
}

template <class S>
int read_from_images(Arguments& a, ImageCall<S>* call) {
  const size_t arrays = a.list_length(kBytes), bytes = read_sizes(a, call, arrays);
  const size_t offset = a.size(kOffsetTensor);
  if (!a.ok() || arrays == 0) return a.fault();
  const std::unique_ptr<uint8_t*[]> first(new (std::nothrow) uint8_t*[arrays]);
  if (!first) return a.fail(Fault::kMemory, 0);
  if (!a.list(kBytes, arrays, bytes, first.get())) return a.fault();
  call->tensor = a.span<S>(kTensor, call->images.elements(), offset);
  const auto* const tensor = reinterpret_cast<const uint8_t*>(call->tensor);
  for (size_t i = 0; i < arrays && a.ok() && bytes > 0; i++) {
    const bool apart = first[i] + bytes <= tensor || tensor + call->images.elements() * sizeof(S) <= first[i];
    if (!apart) a.fail(Fault::kOverlap, kTensor);
  }
  return a.ok() ? place_images(a, call, arrays, first.get()) : a.fault();
}
template <class S>
Status run(const ImageCall<S>& call) {
  return from_images(dispatch::active().of(S()), call.images, call.mean, call.std, call.starts.get(), call.tensor);
}
template <class S>
int from_images_as(Arguments& a) {
  ImageCall<S> call;
  if (read_from_images(a, &call) != 0) return a.fault();
  return finish(a, run(call));
}

template <class S>
int to_images_as(Arguments& a) {
  ImageCall<S> call;
  const size_t bytes = read_sizes(a, &call, 1);
  const size_t offset = a.size(kOffsetTensor);
  if (!a.ok()) return a.fault();
  call.tensor = a.span<S>(kTensor, call.images.elements(), offset);
  uint8_t* const first = a.span<uint8_t>(kBytes, bytes);
  a.output(kBytes);
  if (!a.check_overlaps([](size_t, size_t) { return false; }) || place_images(a, &call, 1, &first) != 0) {
    return a.fault();
  }
  return finish(
      a, to_images(dispatch::active().of(S()), call.images, call.mean, call.std, call.tensor, call.starts.get()));
}

// The numbers of a tally's block; the same list is there.
enum TallyBlock {
  kPositions = 0,
  kFeatures,
  kBetween,  // two features
  kStride,
  kAt,
  kTallyFlags,  // kBFloat16
  kTallyGiven,
  kTallyBlock_
};
static_assert(sizeof(Tally) == 9 * sizeof(double), "a state is nine doubles for each feature");

// tally(block, x, weights, state)
template <class S>
int tally_as(Arguments& a) {
  enum { kX = 1, kWeights, kState };
  const Samples s = {a.size(kPositions), a.size(kFeatures), a.size(kBetween), a.size(kStride)};
  const size_t offset = a.size(kAt);
  a.give(a.size(kTallyGiven));
  size_t item = 0, before = 0, positions = 0, state = 0;
  const bool right = Geometry::product(s.channels, s.inner, &item) && item <= s.stride &&
                     Geometry::product(s.outer, s.stride, &before) && Geometry::product(s.outer, s.inner, &positions) &&
                     Geometry::product(s.channels, 9, &state);
  if (a.ok() && !right) a.fail(Fault::kNumber, 0);
  if (!a.ok()) return a.fault();
  // The last item ends with the last feature that is read.
  const S* x = a.span<S>(kX, before > 0 ? before - s.stride + item : 0, offset);
  const double* weights = a.optional<double>(kWeights, positions);
  Tally* into = reinterpret_cast<Tally*>(a.span<double>(kState, state));
  a.output(kState);
  if (!a.check_overlaps([](size_t, size_t) { return false; })) return a.fault();
  return finish(a, tally(dispatch::active().tally_of(S()), s, x, weights, into));
}

// tally of data that may be integers.
napi_value call_tally(napi_env env, napi_callback_info info) {
  Arguments a(env, info);
  if (!a.ok() || !a.block(kTallyBlock_)) return number(env, a.fault());
  switch (a.element_type(1)) {
    case napi_float32_array:
      return number(env, tally_as<float>(a));
    case napi_float64_array:
      return number(env, tally_as<double>(a));
    case napi_uint16_array:
      return number(env, a.size(kTallyFlags) & kBFloat16 ? tally_as<BFloat16>(a) : tally_as<Float16>(a));
    case napi_uint8_array:
      return number(env, tally_as<uint8_t>(a));
    case napi_int8_array:
      return number(env, tally_as<int8_t>(a));
    case napi_int16_array:
      return number(env, tally_as<int16_t>(a));
    case napi_int32_array:
      return number(env, tally_as<int32_t>(a));
    default:
      return number(env, a.fail(Fault::kDtype, 1));
  }
}

// The version of a call for the storage of its argument 1.
using Typed = int (*)(Arguments&);
template <Typed as_float, Typed as_double, Typed as_float16, Typed as_bfloat16>
napi_value call(napi_env env, napi_callback_info info, size_t numbers, size_t flags) {
  Arguments a(env, info);
  if (!a.ok() || !a.block(numbers)) return number(env, a.fault());
  switch (a.element_type(1)) {
    case napi_float32_array:
      return number(env, as_float(a));
    case napi_float64_array:
      return number(env, as_double(a));
    case napi_uint16_array:
      return number(env, a.size(flags) & kBFloat16 ? as_bfloat16(a) : as_float16(a));
    default:
      return number(env, a.fail(Fault::kDtype, 1));
  }
}
#define SIMDNORM_CALL_WITH(f, numbers, flags)                                             \
  [](napi_env env, napi_callback_info info) {                                             \
    return call<f<float>, f<double>, f<Float16>, f<BFloat16>>(env, info, numbers, flags); \
  }
#define SIMDNORM_CALL(f) SIMDNORM_CALL_WITH(f, kBlock_, kFlags)
#define SIMDNORM_WINDOW_CALL(f) SIMDNORM_CALL_WITH(f, kWindow_, kWindowFlags)
#define SIMDNORM_IMAGE_CALL(f) SIMDNORM_CALL_WITH(f, kImageBlock_, kImageFlags)

// merge(into, from), mergeTallies(into, from): states of so many numbers each, merged one by one by Chan's formula
template <class State>
napi_value merge_states(napi_env env, napi_callback_info info) {
  enum { kInto = 0, kFrom };
  Arguments a(env, info);
  double* into = nullptr;
  const double* from = nullptr;
  const size_t length = a.ok() ? a.length<double>(kInto) : 0;
  into = a.span<double>(kInto, length);
  from = a.span<double>(kFrom, length);
  constexpr size_t kEach = sizeof(State) / sizeof(double);
  if (a.ok() && (length % kEach != 0 || a.length<double>(kFrom) != length)) a.fail(Fault::kLength, kFrom);
  a.output(kInto);
  // A state merged with itself is well defined: merge() copies before it writes.
  if (!a.check_overlaps([](size_t, size_t) { return true; })) return number(env, a.fault());
  const FloatEnvironment environment;
  for (size_t i = 0; i < length; i += kEach) {
    merge(*reinterpret_cast<State*>(into + i), *reinterpret_cast<const State*>(from + i));
  }
  return number(env, 0);
}

double argument_number(napi_env env, napi_callback_info info) {
  size_t count = 1;
  napi_value value;
  double n = -1;
  napi_get_cb_info(env, info, &count, &value, nullptr, nullptr);
  if (napi_get_value_double(env, value, &n) != napi_ok) return -1;
  return n;
}

bool is_index(double n, size_t below) {
  return n >= 0 && n < static_cast<double>(below) && n == static_cast<size_t>(n);
}

// isaName(i): the name of the i-th instruction set of this build, best first, or undefined
napi_value isa_name(napi_env env, napi_callback_info info) {
  const double i = argument_number(env, info);
  napi_value value = nullptr;
  if (is_index(i, dispatch::count())) {
    napi_create_string_utf8(env, dispatch::table(static_cast<size_t>(i)).name, NAPI_AUTO_LENGTH, &value);
  } else {
    napi_get_undefined(env, &value);
  }
  return value;
}

// identity(): version and source hash, "0.1.0 4f3a..."; scripts/check-prebuilds.mjs finds it in the bytes of the file
constexpr char kIdentity[] = "simdnorm " SIMDNORM_VERSION " " SIMDNORM_SOURCES;
napi_value identity(napi_env env, napi_callback_info) {
  napi_value value = nullptr;
  napi_create_string_utf8(env, kIdentity + sizeof "simdnorm", NAPI_AUTO_LENGTH, &value);
  return value;
}

napi_value isa_supported(napi_env env, napi_callback_info info) {
  const double i = argument_number(env, info);
  return number(env, is_index(i, dispatch::count()) && dispatch::supported(static_cast<size_t>(i)));
}

napi_value isa_active(napi_env env, napi_callback_info) {
  return number(env, static_cast<double>(dispatch::active_index()));
}

// isaUse(i): 1, or 0 and nothing changed
napi_value isa_use(napi_env env, napi_callback_info info) {
  const double i = argument_number(env, info);
  return number(env, is_index(i, dispatch::count()) && dispatch::use(static_cast<size_t>(i)));
}

napi_value get_threads(napi_env env, napi_callback_info) {
  return number(env, static_cast<double>(parallel::threads()));
}

// setThreads(n): 1, or 0 and nothing changed
napi_value set_threads(napi_env env, napi_callback_info info) {
  const double n = argument_number(env, info);
  if (n < 1 || !is_index(n, parallel::kMaxThreads + 1)) return number(env, 0);
  parallel::set_threads(static_cast<size_t>(n));
  return number(env, 1);
}

// configured(done): whether somebody in this process has applied the environment's settings; 1 for `done` says so
std::atomic<bool> g_configured{false};
napi_value configured(napi_env env, napi_callback_info info) {
  if (argument_number(env, info) == 1) g_configured.store(true);
  return number(env, g_configured.load());
}

template <double (*answer)(napi_env, napi_callback_info)>
napi_value number_of(napi_env env, napi_callback_info info) {
  return number(env, answer(env, info));
}

void add(Napi::Env env, Napi::Object exports, const char* name, napi_callback callback) {
  napi_value function = nullptr;
  if (napi_create_function(env, name, NAPI_AUTO_LENGTH, callback, nullptr, &function) != napi_ok) return;
  exports.Set(name, Napi::Value(env, function));
}

#ifndef __wasm__
// forwardAsync and fromImagesAsync: the same arguments, of memory that nobody can detach, and `settle` behind them.
// What they return is a fault before the work; settle takes that of the work.
template <class Op>
class Job : public AsyncJob {
 public:
  Op op;

 private:
  int execute() override { return run(op) == Status::kOk ? 0 : static_cast<int>(Fault::kMemory) * 16; }
};
template <class Op, int (*read)(Arguments&, Op*), size_t settle>
int start(Arguments& a) {
  auto* const job = new (std::nothrow) Job<Op>;
  if (!job) return a.fail(Fault::kMemory, 0);
  if (read(a, &job->op) == 0 && job->start(a.env(), a.values(), settle, a.values()[settle])) return 0;
  delete job;
  return a.ok() ? a.fail(Fault::kMemory, 0) : a.fault();
}
template <class S>
int forward_async_as(Arguments& a) {
  return start<Normalize<S>, read_forward<S>, 9>(a);
}
template <class S>
int from_images_async_as(Arguments& a) {
  return start<ImageCall<S>, read_from_images<S>, 3>(a);
}

void add_threaded(Napi::Env env, Napi::Object exports) {
  if (!stay_loaded()) {
    Napi::Error::New(env, "simdnorm: the system would unload the addon under its threads").ThrowAsJavaScriptException();
    return;
  }
  add(env, exports, "forwardAsync", SIMDNORM_CALL(forward_async_as));
  add(env, exports, "fromImagesAsync", SIMDNORM_IMAGE_CALL(from_images_async_as));
  for (const auto& f : distributed::group_functions) add(env, exports, f.name, f.callback);
  for (const auto& f : distributed::mpi_functions) add(env, exports, f.name, f.callback);
}
#else
// No threads, so no groups either; lib/internal/wasm/host.ts makes asynchronous calls at once.
void add_threaded(Napi::Env, Napi::Object) {}
#endif

Napi::Object init(Napi::Env env, Napi::Object exports) {
  const struct {
    const char* name;
    napi_callback callback;
  } functions[] = {
      {"forward", SIMDNORM_CALL(forward_as)},
      {"backward", SIMDNORM_CALL(backward_as)},
      {"moments", SIMDNORM_CALL(moments_as)},
      {"localResponse", SIMDNORM_WINDOW_CALL(local_response_as)},
      {"localResponseBackward", SIMDNORM_WINDOW_CALL(local_response_backward_as)},
      {"fromImages", SIMDNORM_IMAGE_CALL(from_images_as)},
      {"toImages", SIMDNORM_IMAGE_CALL(to_images_as)},
      {"updateRunning", SIMDNORM_CALL(update_running_as)},
      {"statisticsOfParts", SIMDNORM_CALL(statistics_of_parts_as)},
      {"tally", call_tally},
      {"merge", merge_states<Moments>},
      {"mergeTallies", merge_states<Tally>},
      {"identity", identity},
      {"isaName", isa_name},
      {"isaSupported", isa_supported},
      {"isaActive", isa_active},
      {"isaUse", isa_use},
      {"threads", get_threads},
      {"setThreads", set_threads},
      {"configured", configured},
      {"adviseHugePages", number_of<advise_huge_pages>},
      {"bytesToCacheLine", number_of<bytes_to_cache_line>},
  };
  for (const auto& f : functions) add(env, exports, f.name, f.callback);
  add_threaded(env, exports);
  return exports;
}

}  // namespace
}  // namespace simdnorm

static Napi::Object Init(Napi::Env env, Napi::Object exports) { return simdnorm::init(env, exports); }
NODE_API_MODULE(NODE_GYP_MODULE_NAME, Init)
