// The addon of Gloo groups: what native/bindings/group.h has, and how a group comes to be, in two steps, because ranks
// must know each other's addresses in between.
//
//   glooOpen(rank, size, timeoutMs, host, card, detail): a number for an engine that waits to be connected, or -1;
//     `card` becomes what the other ranks need, of cardBytes(size) bytes
//   glooConnect(number, timeoutMs, cards, missing, detail, settle): an Outcome; after 0, settle(outcome) is called
//   later glooTake(number): a handle for the group, once it is connected; or -1 glooDrop(number) cardBytes(size)
#include <node_api.h>
#include <string.h>

#include <map>
#include <memory>
#include <mutex>
#include <string>

#include "engines/gloo/engine.h"
#include "native/bindings/async.h"
#include "native/bindings/group.h"

namespace simdnorm::distributed {
namespace {

constexpr int kMostRanks = 1 << 16;

std::mutex g_mutex;
std::map<int, std::shared_ptr<GlooEngine>> g_waiting;
int g_latest = 0;

std::shared_ptr<GlooEngine> waiting(int number, bool take) {
  const std::lock_guard<std::mutex> lock(g_mutex);
  const auto found = g_waiting.find(number);
  if (found == g_waiting.end()) return nullptr;
  const std::shared_ptr<GlooEngine> engine = found->second;
  if (take) g_waiting.erase(found);
  return engine;
}

class Call {
 public:
  Call(napi_env env, napi_callback_info info) : env(env) {
    size_t count = kMost;
    napi_get_cb_info(env, info, &count, values, nullptr, nullptr);
  }
  double number(size_t i) const {
    double n = -1;
    return napi_get_value_double(env, values[i], &n) == napi_ok ? n : -1;
  }
  int whole(size_t i, int below) const {
    const double n = number(i);
    return n >= 0 && n < below && n == static_cast<int>(n) ? static_cast<int>(n) : -1;
  }
  std::string text(size_t i) const {
    char text[256] = "";
    size_t length = 0;
    napi_get_value_string_utf8(env, values[i], text, sizeof text, &length);
    return text;
  }
  // Null unless it is a Uint8Array of so many bytes.
  uint8_t* bytes(size_t i, size_t length) const {
    napi_typedarray_type type;
    size_t has = 0;
    void* data = nullptr;
    if (napi_get_typedarray_info(env, values[i], &type, &has, &data, nullptr, nullptr) != napi_ok) return nullptr;
    return type == napi_uint8_array && has == length ? static_cast<uint8_t*>(data) : nullptr;
  }
  napi_value answer(double n) const {
    napi_value value = nullptr;
    napi_create_double(env, n, &value);
    return value;
  }
  napi_value answer(Outcome outcome) const { return answer(static_cast<double>(outcome)); }

  static constexpr size_t kMost = 6;
  const napi_env env;
  napi_value values[kMost];
};

void say_in(uint8_t* detail, const char* words) {
  Collective c{};
  c.detail = reinterpret_cast<char*>(detail);
  say(c, words);
}

napi_value card_bytes(napi_env env, napi_callback_info info) {
  const Call call(env, info);
  const int size = call.whole(0, kMostRanks);
  return call.answer(size < 0 ? -1 : static_cast<double>(GlooEngine::card_bytes(size)));
}

napi_value open(napi_env env, napi_callback_info info) {
  const Call call(env, info);
  const int size = call.whole(1, kMostRanks), rank = call.whole(0, size);
  Deadline::duration timeout;
  uint8_t* const detail = call.bytes(5, kDetail);
  if (!detail || size < 1 || rank < 0 || !duration_of(call.number(2), &timeout)) return call.answer(-1);
  uint8_t* const card = call.bytes(4, GlooEngine::card_bytes(size));
  if (!card) return call.answer(-1);
  try {
    const auto milliseconds = std::chrono::ceil<std::chrono::milliseconds>(timeout);
    const auto engine = std::make_shared<GlooEngine>(rank, size, call.text(3), milliseconds);
    const std::vector<uint8_t> own = engine->card();
    memcpy(card, own.data(), own.size());
    const std::lock_guard<std::mutex> lock(g_mutex);
    g_waiting[++g_latest] = engine;
    return call.answer(g_latest);
  } catch (const std::exception& e) {
    say_in(detail, e.what());
  }
  return call.answer(-1);
}

class Connecting final : public AsyncJob {
 public:
  std::shared_ptr<GlooEngine> engine;
  Deadline deadline;
  const uint8_t* cards;
  uint8_t *missing, *detail;

 private:
  int execute() override {
    return static_cast<int>(engine->connect(cards, deadline, missing, reinterpret_cast<char*>(detail)));
  }
};

napi_value connect(napi_env env, napi_callback_info info) {
  enum { kTimeout = 1, kCards, kMissing, kDetails, kSettle };
  const Call call(env, info);
  const auto engine = waiting(call.whole(0, 1 << 30), false);
  Deadline::duration timeout;
  if (!engine || !duration_of(call.number(kTimeout), &timeout)) return call.answer(Outcome::kFailed);
  const size_t size = static_cast<size_t>(engine->size());
  auto job = std::make_unique<Connecting>();
  job->engine = engine;
  job->deadline = std::chrono::steady_clock::now() + timeout;
  job->cards = call.bytes(kCards, size * GlooEngine::card_bytes(engine->size()));
  job->missing = call.bytes(kMissing, size);
  job->detail = call.bytes(kDetails, kDetail);
  if (!job->cards || !job->missing || !job->detail) return call.answer(Outcome::kFailed);
  if (!job->start(env, call.values, kSettle, call.values[kSettle])) return call.answer(Outcome::kFailed);
  job.release();  // deletes itself
  return call.answer(Outcome::kOk);
}

// Once nobody else has the engine, which has ended connecting.
class Taken final : public Engine {
 public:
  explicit Taken(std::shared_ptr<GlooEngine> engine) : engine_(std::move(engine)) {}
  int rank() const override { return engine_->rank(); }
  int size() const override { return engine_->size(); }
  Outcome run(const Collective& c) override { return engine_->run(c); }
  Outcome split(const int* ranks, int count, const Collective& c, Engine** made) override {
    return engine_->split(ranks, count, c, made);
  }
  void close() override { engine_->close(); }

 private:
  const std::shared_ptr<GlooEngine> engine_;
};

napi_value take(napi_env env, napi_callback_info info) {
  const Call call(env, info);
  auto engine = waiting(call.whole(0, 1 << 30), true);
  return call.answer(engine ? adopt(env, new Taken(std::move(engine))) : -1);
}

napi_value drop(napi_env env, napi_callback_info info) {
  const Call call(env, info);
  waiting(call.whole(0, 1 << 30), true);
  return nullptr;
}

napi_value init(napi_env env, napi_value exports) {
  const Function own[] = {
      {"glooOpen", open}, {"glooConnect", connect}, {"glooTake", take}, {"glooDrop", drop}, {"cardBytes", card_bytes}};
  const auto add = [&](const Function& f) {
    napi_value function;
    if (napi_create_function(env, f.name, NAPI_AUTO_LENGTH, f.callback, nullptr, &function) == napi_ok) {
      napi_set_named_property(env, exports, f.name, function);
    }
  };
  for (const Function& f : own) add(f);
  for (const Function& f : group_functions) add(f);
  return exports;
}

}  // namespace
}  // namespace simdnorm::distributed

NAPI_MODULE_INIT() { return simdnorm::distributed::init(env, exports); }
