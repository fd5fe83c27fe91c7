#include "native/bindings/group.h"

#include <limits.h>

#include <new>

#include "native/distributed/runner.h"

namespace simdnorm::distributed {
namespace {

struct Group {
  Group(int handle, napi_env env, Engine* engine) : handle(handle), env(env), runner(engine) {}

  const int handle;
  const napi_env env;
  napi_threadsafe_function settle = nullptr;
  size_t started = 0;  // and not settled
  bool closed = false;
  Group* next = nullptr;
  Runner runner;  // last: its thread uses the others until it has ended
};

std::mutex g_mutex;
Group* g_first = nullptr;  // of those that are not closed, of all environments
int g_latest = 0;          // handle

Group* find(napi_env env, int handle) {
  const std::lock_guard<std::mutex> lock(g_mutex);
  Group* g = g_first;
  while (g && (g->handle != handle || g->env != env)) g = g->next;
  return g;
}

void forget(Group* group) {
  const std::lock_guard<std::mutex> lock(g_mutex);
  for (Group** at = &g_first; *at; at = &(*at)->next) {
    if (*at != group) continue;
    *at = group->next;
    return;
  }
}

// The environment ends, with its memory: a Worker was terminated, or the process exits.
void end(void* self) {
  Group* const group = static_cast<Group*>(self);
  forget(group);
  // The thread that settles calls must have ended before the function it calls.
  const napi_threadsafe_function settle = group->settle;
  delete group;
  if (settle) napi_release_threadsafe_function(settle, napi_tsfn_abort);
}

void end_if_done(Group* group) {
  if (!group->closed || group->started > 0) return;
  napi_remove_env_cleanup_hook(group->env, end, group);
  end(group);
}

void close(Group* group) {
  forget(group);
  group->closed = true;
  group->runner.close();
  end_if_done(group);
}

// An integer from 0 to below `end`.
bool whole(double n, int end, int* i) {
  if (!(n >= 0 && n < end)) return false;
  *i = static_cast<int>(n);
  return *i == n;
}

struct View {
  bool is_array = false;
  napi_typedarray_type type = napi_uint8_clamped_array;
  size_t length = 0;
  void* data = nullptr;

  bool is(napi_typedarray_type wanted, size_t elements) const {
    return is_array && type == wanted && length == elements;
  }
};

// The arguments of a call, and what it says of itself where they are wrong.
class Call {
 public:
  static constexpr size_t kMost = 9;

  Call(napi_env env, napi_callback_info info) : env(env) {
    size_t count = kMost;  // fills with undefined what was not passed
    double n = 0;
    int handle = 0;
    if (napi_get_cb_info(env, info, &count, values, nullptr, nullptr) == napi_ok && number(0, &n) &&
        whole(n, INT_MAX, &handle)) {
      group = find(env, handle);
    }
  }

  bool number(size_t argument, double* n) const { return napi_get_value_double(env, values[argument], n) == napi_ok; }
  View view(size_t argument) const {
    View v;
    v.is_array =
        napi_get_typedarray_info(env, values[argument], &v.type, &v.length, &v.data, nullptr, nullptr) == napi_ok;
    return v;
  }

  const napi_env env;
  napi_value values[kMost];
  Group* group = nullptr;
};

napi_value answer(napi_env env, Outcome outcome) {
  napi_value value = nullptr;
  napi_create_int32(env, static_cast<int>(outcome), &value);
  return value;
}

bool type_of(const View& v, Type* type) {
  if (!v.is_array) return false;
  switch (v.type) {
    case napi_float32_array:
      *type = Type::kFloat32;
      return true;
    case napi_float64_array:
      *type = Type::kFloat64;
      return true;
    case napi_int32_array:
      *type = Type::kInt32;
      return true;
    case napi_bigint64_array:
      *type = Type::kInt64;
      return true;
    case napi_uint8_array:
      *type = Type::kUint8;
      return true;
    case napi_int8_array:
      *type = Type::kInt8;
      return true;
    default:
      return false;
  }
}

Outcome refuse(const Collective& c, const char* words) {
  say(c, words);
  return Outcome::kFailed;
}

// headers, missing and detail, from argument `first` on.
Outcome read_report(const Call& call, size_t first, Collective* c) {
  const size_t size = static_cast<size_t>(call.group->runner.size());
  const View headers = call.view(first), missing = call.view(first + 1), detail = call.view(first + 2);
  if (!detail.is(napi_uint8_array, kDetail)) return Outcome::kFailed;
  c->detail = static_cast<char*>(detail.data);
  if (!headers.is(napi_uint8_array, size * kHeader)) return refuse(*c, "headers: size * 256 bytes are needed");
  if (!missing.is(napi_uint8_array, size)) return refuse(*c, "missing: as many bytes as ranks are needed");
  c->headers = static_cast<uint8_t*>(headers.data);
  c->missing = static_cast<uint8_t*>(missing.data);
  memset(c->headers, 0, headers.length);
  memset(c->missing, 0, missing.length);
  c->detail[0] = 0;
  return Outcome::kOk;
}

constexpr size_t kRunSettle = 8, kSplitMade = 6, kSplitSettle = 7;

Outcome read_run(const Call& call, Work* work) {
  enum { kBlock = 1, kHead, kInput, kOutput, kReport };
  Collective& c = work->collective;
  const Outcome report = read_report(call, kReport, &c);
  if (report != Outcome::kOk) return report;

  const View block = call.view(kBlock);
  if (!block.is(napi_float64_array, 4)) return refuse(c, "the block has four numbers");
  const auto* const numbers = static_cast<const double*>(block.data);
  const int size = call.group->runner.size();
  int kind = 0, operation = 0;
  if (!whole(numbers[0], 4, &kind) || !whole(numbers[1], 4, &operation)) return refuse(c, "an unknown collective");
  if (!whole(numbers[2], size, &c.root)) return refuse(c, "root is no rank of the group");
  if (!duration_of(numbers[3], &work->timeout)) return refuse(c, "the timeout is no length of time");
  c.kind = static_cast<Kind>(kind);
  c.operation = static_cast<Operation>(operation);

  const View header = call.view(kHead);
  if (!header.is(napi_uint8_array, kHeader)) return refuse(c, "header: 256 bytes are needed");
  c.header = static_cast<const uint8_t*>(header.data);

  if (c.kind == Kind::kBarrier) return Outcome::kOk;
  const View output = call.view(kOutput);
  if (!type_of(output, &c.type)) return refuse(c, "output: no array that groups know");
  c.out = output.data;
  c.bytes = output.length * size_of(c.type);
  if (c.kind != Kind::kGather) return Outcome::kOk;
  const View input = call.view(kInput);
  if (!input.is_array || input.type != output.type) return refuse(c, "input and output are of different kinds");
  // No product, which could overflow.
  const size_t ranks = static_cast<size_t>(size);
  if (output.length % ranks != 0 || output.length / ranks != input.length) {
    return refuse(c, "output is not `size` times as long as input");
  }
  c.in = input.data;
  c.bytes = input.length * size_of(c.type);
  return Outcome::kOk;
}

Outcome read_split(const Call& call, Work* work) {
  enum { kRanks = 1, kTimeout, kReport };
  Collective& c = work->collective;
  const Outcome report = read_report(call, kReport, &c);
  if (report != Outcome::kOk) return report;

  double milliseconds = 0;
  if (!call.number(kTimeout, &milliseconds) || !duration_of(milliseconds, &work->timeout)) {
    return refuse(c, "the timeout is no length of time");
  }
  const View ranks = call.view(kRanks);
  const int size = call.group->runner.size();
  if (!ranks.is_array || ranks.type != napi_int32_array || ranks.length == 0) return refuse(c, "no ranks");
  work->ranks = static_cast<const int*>(ranks.data);
  for (size_t i = 0; i < ranks.length; i++) {
    const int before = i > 0 ? work->ranks[i - 1] : -1;
    if (work->ranks[i] <= before || work->ranks[i] >= size) return refuse(c, "ranks do not ascend within the group");
  }
  work->count = static_cast<int>(ranks.length);
  if (!call.view(kSplitMade).is(napi_float64_array, 1)) return refuse(c, "made: a Float64Array of one is needed");
  return Outcome::kOk;
}

// The end of a split: its handle goes to `made`.
void hand_over(napi_env env, Work* work, napi_value made) {
  if (!work->ranks || work->outcome != Outcome::kOk) return;
  View v;
  if (napi_get_typedarray_info(env, made, &v.type, &v.length, &v.data, nullptr, nullptr) != napi_ok || v.length < 1) {
    delete work->made;
    work->outcome = Outcome::kFailed;
    return;
  }
  const int handle = work->made ? adopt(env, work->made) : -1;
  if (work->made && handle < 0) work->outcome = refuse(work->collective, "out of memory");
  *static_cast<double*>(v.data) = handle;
}

using Read = Outcome (*)(const Call&, Work*);

template <Read read>
napi_value run(napi_env env, napi_callback_info info) {
  const Call call(env, info);
  if (!call.group) return answer(env, Outcome::kClosed);
  Work work;
  const Outcome wrong = read(call, &work);
  if (wrong != Outcome::kOk) return answer(env, wrong);
  call.group->runner.run(&work);
  hand_over(env, &work, call.values[kSplitMade]);
  return answer(env, work.outcome);
}

struct Started : Work {
  Group* group = nullptr;
  napi_ref held = nullptr;  // an array of the arguments
  size_t settle = 0;        // which of them
};

bool hold(const Call& call, Started* work) {
  napi_value held;
  if (napi_create_array_with_length(call.env, work->settle + 1, &held) != napi_ok) return false;
  for (size_t i = 0; i <= work->settle; i++) {
    if (napi_set_element(call.env, held, static_cast<uint32_t>(i), call.values[i]) != napi_ok) return false;
  }
  return napi_create_reference(call.env, held, 1, &work->held) == napi_ok;
}

void settle(napi_env env, napi_value, void*, void* data) {
  Started* const work = static_cast<Started*>(data);
  if (!env) {
    // The environment has ended, the group and all references with it.
    delete work->made;
    delete work;
    return;
  }
  Group* const group = work->group;
  if (--group->started == 0) napi_unref_threadsafe_function(env, group->settle);
  napi_value held, made, function, receiver;
  const bool ok = napi_get_reference_value(env, work->held, &held) == napi_ok &&
                  napi_get_element(env, held, kSplitMade, &made) == napi_ok &&
                  napi_get_element(env, held, static_cast<uint32_t>(work->settle), &function) == napi_ok &&
                  napi_get_undefined(env, &receiver) == napi_ok;
  if (ok) hand_over(env, work, made);
  const napi_value outcome = answer(env, work->outcome);
  napi_delete_reference(env, work->held);
  delete work;
  end_if_done(group);
  if (ok) napi_call_function(env, receiver, function, 1, &outcome, nullptr);
}

template <Read read, size_t settle_argument>
napi_value start(napi_env env, napi_callback_info info) {
  const Call call(env, info);
  if (!call.group) return answer(env, Outcome::kClosed);
  Started* const work = new (std::nothrow) Started;
  if (!work) return answer(env, Outcome::kFailed);
  Outcome wrong = read(call, work);
  if (wrong == Outcome::kOk) {
    Group* const group = work->group = call.group;
    work->settle = settle_argument;
    work->ended = [](Work* ended) {
      Started* const self = static_cast<Started*>(ended);
      napi_call_threadsafe_function(self->group->settle, self, napi_tsfn_nonblocking);
    };
    if (!hold(call, work)) {
      wrong = refuse(work->collective, "out of memory");
    } else if (!group->runner.start(work)) {
      wrong = refuse(work->collective, "no thread can be started");
    } else {
      if (group->started++ == 0) napi_ref_threadsafe_function(env, group->settle);
      return answer(env, Outcome::kOk);
    }
  }
  if (work->held) napi_delete_reference(env, work->held);
  delete work;
  return answer(env, wrong);
}

napi_value group_close(napi_env env, napi_callback_info info) {
  const Call call(env, info);
  if (call.group) close(call.group);
  return nullptr;
}

}  // namespace

bool duration_of(double milliseconds, Deadline::duration* duration) {
  if (!(milliseconds >= 0)) return false;
  constexpr double kMost = 1e11;  // three years: in nanoseconds it is an int64
  const std::chrono::duration<double, std::milli> given(milliseconds < kMost ? milliseconds : kMost);
  *duration = std::chrono::duration_cast<Deadline::duration>(given);
  return true;
}

int adopt(napi_env env, Engine* engine) {
  int handle;
  {
    const std::lock_guard<std::mutex> lock(g_mutex);
    handle = ++g_latest;
  }
  Group* const group = new (std::nothrow) Group(handle, env, engine);
  if (!group) {
    delete engine;
    return -1;
  }
  // Hooks run in reverse order: the function outlives the group's thread, which calls it.
  napi_value name;
  if (napi_create_string_utf8(env, "simdnorm", NAPI_AUTO_LENGTH, &name) != napi_ok ||
      napi_create_threadsafe_function(env, nullptr, nullptr, name, 0, 1, nullptr, nullptr, nullptr, settle,
                                      &group->settle) != napi_ok ||
      napi_unref_threadsafe_function(env, group->settle) != napi_ok ||
      napi_add_env_cleanup_hook(env, end, group) != napi_ok) {
    end(group);
    return -1;
  }
  const std::lock_guard<std::mutex> lock(g_mutex);
  group->next = g_first;
  g_first = group;
  return handle;
}

const Function group_functions[kGroupFunctions] = {
    {"groupRun", run<read_run>},     {"groupStart", start<read_run, kRunSettle>},
    {"groupSplit", run<read_split>}, {"groupSplitStart", start<read_split, kSplitSettle>},
    {"groupClose", group_close},
};

}  // namespace simdnorm::distributed
