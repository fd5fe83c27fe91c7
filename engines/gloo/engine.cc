#include "engines/gloo/engine.h"

#include <arpa/inet.h>
#include <gloo/allreduce.h>
#include <gloo/broadcast.h>
#include <gloo/math.h>
#include <gloo/transport/context.h>
#include <gloo/transport/tcp/address.h>
#include <gloo/transport/tcp/device.h>
#include <gloo/transport/unbound_buffer.h>

#include <algorithm>
#include <condition_variable>
#include <exception>
#include <functional>
#include <string>
#include <thread>

namespace simdnorm::distributed {
namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;

// Up to here few steps are better than little data in each.
constexpr size_t kSmall = 64 << 10;
// How long ranks that are well take to say so to one that has failed.
constexpr milliseconds kRollCall(500);
// Gloo's pairs wait to be connected five times as long, each by itself. An Alarm ends that, not they.
constexpr std::chrono::hours kNever(24);

// Of a rank: its address, then its ports, two for each rank.
struct Head {
  uint16_t family;
  uint8_t address[16];
};

// Rings at the deadline, unless it is gone by then.
class Alarm {
 public:
  Alarm(Deadline deadline, std::function<void()> ring)
      : thread_([this, deadline, ring] {
          std::unique_lock<std::mutex> lock(mutex_);
          if (!off_.wait_until(lock, deadline, [this] { return is_off_; })) ring();
        }) {}
  ~Alarm() {
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      is_off_ = true;
    }
    off_.notify_one();
    thread_.join();
  }

 private:
  std::mutex mutex_;
  std::condition_variable off_;
  bool is_off_ = false;
  std::thread thread_;
};

milliseconds left(Deadline deadline) {
  const auto time = std::chrono::ceil<milliseconds>(deadline - Clock::now());
  return std::max(time, milliseconds(1));  // 0 would be none at all
}

// As Gloo's pairs exchange them.
std::vector<char> address_of(const Head& head, uint16_t port) {
  sockaddr_storage storage{};
  storage.ss_family = head.family;
  if (head.family == AF_INET) {
    auto* const in = reinterpret_cast<sockaddr_in*>(&storage);
    in->sin_port = port;
    memcpy(&in->sin_addr, head.address, sizeof in->sin_addr);
  } else {
    auto* const in = reinterpret_cast<sockaddr_in6*>(&storage);
    in->sin6_port = port;
    memcpy(&in->sin6_addr, head.address, sizeof in->sin6_addr);
  }
  return gloo::transport::tcp::Address(storage).bytes();
}

using Function = void (*)(void*, const void*, const void*, size_t);

template <class T>
Function function(Operation operation) {
  switch (operation) {
    case Operation::kProduct:
      return &gloo::product<T>;
    case Operation::kMin:
      return &gloo::min<T>;
    case Operation::kMax:
      return &gloo::max<T>;
    default:
      return &gloo::sum<T>;
  }
}

template <class T>
void all_reduce(const std::shared_ptr<gloo::Context>& context, const Collective& c, uint64_t number) {
  gloo::AllreduceOptions options(context);
  options.setOutput(static_cast<T*>(c.out), c.bytes / sizeof(T));
  options.setReduceFunction(function<T>(c.operation));
  options.setTag(static_cast<uint32_t>(number));
  options.setTimeout(left(c.deadline));
  if (c.bytes <= kSmall) options.setAlgorithm(gloo::AllreduceOptions::Algorithm::BCUBE);
  gloo::allreduce(options);
}

}  // namespace

Mesh::Mesh(std::shared_ptr<gloo::transport::Device> device, int rank, int size) : gloo::Context(rank, size) {
  device_ = device;
  transportContext_ = device->createContext(rank, size);
  transportContext_->setTimeout(kNever);
  for (int i = 0; i < size; i++) {
    if (i != rank) transportContext_->createPair(i);
  }
}

std::vector<uint16_t> Mesh::ports() {
  std::vector<uint16_t> ports;
  for (int i = 0; i < size; i++) {
    if (i == rank) {
      ports.push_back(0);
      continue;
    }
    const gloo::transport::tcp::Address address(getPair(i)->address().bytes());
    const sockaddr_storage& at = address.getSockaddr();
    ports.push_back(at.ss_family == AF_INET ? reinterpret_cast<const sockaddr_in&>(at).sin_port
                                            : reinterpret_cast<const sockaddr_in6&>(at).sin6_port);
  }
  return ports;
}

void Mesh::connect(int peer, const std::vector<char>& address) { getPair(peer)->connect(address); }

void Mesh::limit(milliseconds timeout) { transportContext_->setTimeout(timeout); }

void Mesh::poison() {
  // A wait that is over closes all connections of a context, and that is the only way to do so from another thread.
  uint8_t nothing;
  try {
    createUnboundBuffer(&nothing, 1)->waitRecv(nullptr, milliseconds(1));
  } catch (...) {
  }
}

GlooEngine::GlooEngine(int rank, int size, const std::string& host) : rank_(rank), size_(size), host_(host) {
  gloo::transport::tcp::attr attr(host.c_str());
  const auto device = gloo::transport::tcp::CreateDevice(attr);
  direct_ = std::make_unique<Mesh>(device, rank, size);
  collective_ = std::make_shared<Mesh>(device, rank, size);
}

size_t GlooEngine::card_bytes(int size) { return sizeof(Head) + 2 * static_cast<size_t>(size) * sizeof(uint16_t); }

std::vector<uint8_t> GlooEngine::card() {
  Head head{};
  head.family = inet_pton(AF_INET, host_.c_str(), head.address) == 1    ? AF_INET
                : inet_pton(AF_INET6, host_.c_str(), head.address) == 1 ? AF_INET6
                                                                        : 0;
  if (head.family == 0) throw std::runtime_error("no address: " + host_);
  std::vector<uint8_t> card(card_bytes(size_));
  memcpy(card.data(), &head, sizeof head);
  uint8_t* at = card.data() + sizeof head;
  for (Mesh* const mesh : {direct_.get(), collective_.get()}) {
    const std::vector<uint16_t> ports = mesh->ports();
    memcpy(at, ports.data(), ports.size() * sizeof(uint16_t));
    at += ports.size() * sizeof(uint16_t);
  }
  return card;
}

Outcome GlooEngine::connect(const uint8_t* cards, const Collective& c) {
  struct Way {
    Mesh* mesh;
    int peer;
    std::vector<char> address;
    bool calls;  // the pair does, of the two: its address is the higher one
  };
  const size_t bytes = card_bytes(size_), n = static_cast<size_t>(size_);
  const auto card_of = [&](int rank) { return cards + static_cast<size_t>(rank) * bytes; };
  const auto head_of = [&](int rank) {
    Head head;
    memcpy(&head, card_of(rank), sizeof head);
    return head;
  };
  // Where `at` waits for `from`.
  const auto port_of = [&](int at, int from, size_t mesh) {
    uint16_t port;
    memcpy(&port, card_of(at) + sizeof(Head) + (mesh * n + static_cast<size_t>(from)) * sizeof port, sizeof port);
    return port;
  };
  Mesh* const meshes[] = {direct_.get(), collective_.get()};
  std::vector<Way> ways;
  for (int peer = 0; peer < size_; peer++) {
    if (peer == rank_) continue;
    const Head own = head_of(rank_), other = head_of(peer);
    const int order = memcmp(own.address, other.address, sizeof own.address);
    for (size_t m : {0, 1}) {
      const uint16_t here = port_of(rank_, peer, m), there = port_of(peer, rank_, m);
      ways.push_back({meshes[m], peer, address_of(other, there), order != 0 ? order > 0 : here > there});
    }
  }
  // Calls come first, which the system of a frozen rank answers too: one that waits for a call then waits for nobody
  // but its caller, and does not keep others waiting.
  std::stable_partition(ways.begin(), ways.end(), [](const Way& way) { return way.calls; });
  {
    const Alarm alarm(c.deadline, [this] { poison(); });
    for (const Way& way : ways) {
      try {
        way.mesh->connect(way.peer, way.address);
      } catch (const std::exception& e) {
        say(c, e.what());
        c.missing[way.peer] = 1;
        return Clock::now() < c.deadline ? Outcome::kLost : Outcome::kTimeout;
      }
    }
  }
  if (Clock::now() >= c.deadline) return Outcome::kTimeout;
  connected_ = true;
  const uint8_t here = 1;
  std::vector<uint8_t> all(n);
  return exchange(&here, all.data(), sizeof here, c.deadline, c);
}

// Nothing that is thrown leaves the engine, and after anything but kOk it does nothing more.
template <class Body>
Outcome GlooEngine::guarded(const Collective& c, Body body) {
  if (dead_ || closed_.load()) return Outcome::kClosed;
  Outcome outcome = Outcome::kFailed;
  try {
    outcome = body();
  } catch (const std::exception& e) {
    say(c, e.what());
  } catch (...) {
    say(c, "an exception of no known kind");
  }
  dead_ = outcome != Outcome::kOk;
  return dead_ && closed_.load() ? Outcome::kClosed : outcome;
}

Outcome GlooEngine::run(const Collective& c) {
  return guarded(c, [&] { return connected_ ? perform(c) : join(c); });
}

Outcome GlooEngine::join(const Collective& c) {
  if (c.bytes == static_cast<size_t>(size_) * card_bytes(size_)) return connect(static_cast<uint8_t*>(c.out), c);
  say(c, "the cards are of another length");
  return Outcome::kFailed;
}

Outcome GlooEngine::perform(const Collective& c) {
  const Outcome outcome = exchange(c.header, c.headers, kHeader, c.deadline, c);
  if (outcome != Outcome::kOk) return outcome;
  if (!agree(c, size_)) return Outcome::kMismatch;
  if (c.bytes == 0) return outcome;
  switch (c.kind) {
    case Kind::kGather:
      return exchange(c.in, c.out, c.bytes, c.deadline, c);
    case Kind::kReduce:
      return together(c, [&] { reduce(c); });
    case Kind::kBroadcast:
      return together(c, [&] { broadcast(c); });
    default:
      return outcome;
  }
}

// Directly between each two ranks: one step, and each rank knows who has not come. Behind each message stands its
// number, which shows that it has come.
Outcome GlooEngine::exchange(const void* mine, void* all, size_t bytes, Deadline deadline, const Collective& c) {
  const size_t stride = bytes + sizeof number_, n = static_cast<size_t>(size_);
  uint8_t* const to = static_cast<uint8_t*>(all);
  const uint64_t slot = ++number_;
  incoming_.assign(n * stride, 0);
  outgoing_.resize(stride);
  memcpy(outgoing_.data(), mine, bytes);
  memcpy(outgoing_.data() + bytes, &slot, sizeof slot);
  try {
    const auto in = direct_->createUnboundBuffer(incoming_.data(), incoming_.size());
    const auto out = direct_->createUnboundBuffer(outgoing_.data(), outgoing_.size());
    for (int i = 1; i < size_; i++) {
      const int r = (rank_ + i) % size_;
      in->recv(r, slot, static_cast<size_t>(r) * stride, stride);
    }
    for (int i = 1; i < size_; i++) out->send((rank_ + i) % size_, slot, 0, stride);
    for (int i = 1; i < size_; i++) in->waitRecv(nullptr, left(deadline));
    for (int i = 1; i < size_; i++) out->waitSend(nullptr, left(deadline));
  } catch (const std::exception& e) {
    const Outcome outcome = broken(deadline, stride, e.what(), c);
    if (bytes == kHeader && all == c.headers) {
      for (size_t r = 0; r < n; r++) memcpy(to + r * bytes, incoming_.data() + r * stride, bytes);
    }
    return outcome;
  }
  for (size_t r = 0; r < n; r++) memcpy(to + r * bytes, incoming_.data() + r * stride, bytes);
  memcpy(to + static_cast<size_t>(rank_) * bytes, mine, bytes);
  return Outcome::kOk;
}

// Who has not come; after a time-out all connections are closed, else only those that are broken.
Outcome GlooEngine::broken(Deadline deadline, size_t stride, const char* words, const Collective& c) {
  say(c, words);
  const bool late = Clock::now() >= deadline;
  const auto is_broken = [&](int r) {
    uint8_t nothing;
    try {
      // Never matched: slots begin at 1.
      direct_->createUnboundBuffer(&nothing, 1)->recv(r, 0, 0, 1);
    } catch (const std::exception&) {
      return true;
    }
    return false;
  };
  bool any = false;
  std::vector<bool> lost(static_cast<size_t>(size_));
  for (int r = 0; r < size_; r++) {
    if (r == rank_) continue;
    uint64_t came;
    memcpy(&came, incoming_.data() + static_cast<size_t>(r + 1) * stride - sizeof came, sizeof came);
    lost[static_cast<size_t>(r)] = !late && is_broken(r);
    c.missing[r] = came != number_ && (late || lost[static_cast<size_t>(r)]);
    any = any || c.missing[r];
  }
  // It has come, and could not be answered.
  for (int r = 0; !any && r < size_; r++) c.missing[r] = lost[static_cast<size_t>(r)];
  return late ? Outcome::kTimeout : Outcome::kLost;
}

template <class Body>
Outcome GlooEngine::together(const Collective& c, Body body) {
  struct Note {
    uint8_t failed;
    char words[kDetail];
  };
  Note mine{};
  try {
    // Of the waits of its algorithms, those that do not pass on the timeout they were given.
    collective_->limit(left(c.deadline));
    body();
  } catch (const std::exception& e) {
    mine.failed = 1;
    memcpy(mine.words, e.what(), strnlen(e.what(), kDetail - 1));
    collective_->poison();
  }
  const Deadline roll_call = Clock::now() + kRollCall;
  std::vector<Note> all(static_cast<size_t>(size_));
  const Deadline until = mine.failed ? roll_call : std::max(roll_call, c.deadline);
  const Outcome outcome = exchange(&mine, all.data(), sizeof mine, until, c);
  if (outcome != Outcome::kOk) return outcome;
  const auto failed = std::find_if(all.begin(), all.end(), [](const Note& note) { return note.failed; });
  if (failed == all.end()) return outcome;
  say(c, failed->words);
  return Clock::now() >= c.deadline ? Outcome::kTimeout : Outcome::kFailed;
}

void GlooEngine::reduce(const Collective& c) {
  switch (c.type) {
    case Type::kFloat32:
      return all_reduce<float>(collective_, c, number_);
    case Type::kFloat64:
      return all_reduce<double>(collective_, c, number_);
    case Type::kInt32:
      return all_reduce<int32_t>(collective_, c, number_);
    case Type::kInt64:
      return all_reduce<int64_t>(collective_, c, number_);
    case Type::kUint8:
      return all_reduce<uint8_t>(collective_, c, number_);
    case Type::kInt8:
      return all_reduce<int8_t>(collective_, c, number_);
  }
}

void GlooEngine::broadcast(const Collective& c) {
  gloo::BroadcastOptions options(collective_);
  options.setOutput(static_cast<uint8_t*>(c.out), c.bytes);
  options.setRoot(c.root);
  options.setTag(static_cast<uint32_t>(number_));
  options.setTimeout(left(c.deadline));
  gloo::broadcast(options);
}

Outcome GlooEngine::split(const int* ranks, int count, const Collective& c, Engine** made) {
  *made = nullptr;
  return guarded(c, [&] {
    const int own = static_cast<int>(std::find(ranks, ranks + count, rank_) - ranks);
    const size_t bytes = card_bytes(count), n = static_cast<size_t>(size_);
    std::vector<uint8_t> card(bytes), all(n * bytes), cards;
    std::unique_ptr<GlooEngine> part;
    if (own < count) {
      part = std::make_unique<GlooEngine>(own, count, host_);
      card = part->card();
    }
    const Outcome outcome = exchange(card.data(), all.data(), bytes, c.deadline, c);
    if (outcome != Outcome::kOk || !part) return outcome;
    for (int i = 0; i < count; i++) {
      const auto at = all.begin() + static_cast<ptrdiff_t>(static_cast<size_t>(ranks[i]) * bytes);
      cards.insert(cards.end(), at, at + static_cast<ptrdiff_t>(bytes));
    }
    std::vector<uint8_t> missing(static_cast<size_t>(count));
    Collective own_call = c;
    own_call.missing = missing.data();
    connecting(part.get());
    // close() has come before, or finds the part.
    const Outcome connected = closed_.load() ? Outcome::kClosed : part->connect(cards.data(), own_call);
    connecting(nullptr);
    for (int i = 0; i < count; i++) c.missing[ranks[i]] = missing[static_cast<size_t>(i)];
    if (connected == Outcome::kOk) *made = part.release();
    return connected;
  });
}

void GlooEngine::connecting(GlooEngine* part) {
  const std::lock_guard<std::mutex> lock(mutex_);
  part_ = part;
}

void GlooEngine::poison() {
  direct_->poison();
  collective_->poison();
}

void GlooEngine::close() {
  closed_.store(true);
  poison();
  const std::lock_guard<std::mutex> lock(mutex_);
  if (part_) part_->close();
}

}  // namespace simdnorm::distributed
