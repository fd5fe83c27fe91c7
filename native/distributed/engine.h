// What an engine (MPI, Gloo) can do between the ranks of one group. Node-free, shared by the addon and engines/gloo.
//
// A group's operations are called by one thread at a time, in the order they were asked for. After anything but kOk the
// group is dead: further operations fail at once, and others make a new group.
#ifndef SIMDNORM_DISTRIBUTED_ENGINE_H_
#define SIMDNORM_DISTRIBUTED_ENGINE_H_

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <chrono>

namespace simdnorm::distributed {

using Deadline = std::chrono::steady_clock::time_point;

enum class Outcome : int {
  kOk = 0,
  kTimeout = 1,   // `missing` did not come in time
  kLost = 2,      // the connection to `missing` is gone
  kMismatch = 3,  // headers differ: see `headers`
  kClosed = 4,    // the group was closed, or has failed before
  kFailed = 5,    // the engine refused: see `detail`
};

enum class Kind : int { kBarrier = 0, kGather = 1, kReduce = 2, kBroadcast = 3 };
enum class Type : int { kFloat32 = 0, kFloat64 = 1, kInt32 = 2, kInt64 = 3, kUint8 = 4, kInt8 = 5 };
enum class Operation : int { kSum = 0, kProduct = 1, kMin = 2, kMax = 3 };

constexpr size_t kHeader = 256;
constexpr size_t kDetail = 512;

inline size_t size_of(Type type) {
  switch (type) {
    case Type::kFloat64:
    case Type::kInt64:
      return 8;
    case Type::kFloat32:
    case Type::kInt32:
      return 4;
    default:
      return 1;
  }
}

// One collective. All ranks must come with the same header, which says what they are about to do; that is made sure of
// before any data move.
struct Collective {
  Kind kind;
  Type type;            // of kReduce
  Operation operation;  // of kReduce
  int root;             // of kBroadcast
  const uint8_t* header;
  size_t bytes;      // of `in`; the same on all ranks
  const void* in;    // of kGather
  void* out;         // kGather: size * bytes, by rank; kReduce and kBroadcast: in place
  uint8_t* headers;  // size * kHeader, by rank: those that came
  uint8_t* missing;  // size: 1 for each rank that did not come, or whose connection is gone
  char* detail;      // kDetail bytes, ends with 0: the engine's own words, or empty
  Deadline deadline;
};

class Engine {
 public:
  virtual ~Engine() = default;
  virtual int rank() const = 0;
  virtual int size() const = 0;
  virtual Outcome run(const Collective& c) = 0;
  // A group of `count` of these ranks, ascending. All ranks of this group call it, after a barrier has shown that they
  // agree; *made is null on those that are not in it. `c` says where to report and until when.
  virtual Outcome split(const int* ranks, int count, const Collective& c, Engine** made) = 0;
  // From any thread, while an operation may be running: that one and all later ones end with kClosed, soon.
  virtual void close() = 0;

 protected:
  Engine() = default;
};

inline void say(const Collective& c, const char* words) {
  if (!c.detail) return;
  const size_t length = strnlen(words, kDetail - 1);
  memmove(c.detail, words, length);
  c.detail[length] = 0;
}

// Whether all headers that came are this rank's own.
inline bool agree(const Collective& c, int size) {
  for (int r = 0; r < size; r++) {
    if (memcmp(c.headers + static_cast<size_t>(r) * kHeader, c.header, kHeader) != 0) return false;
  }
  return true;
}

}  // namespace simdnorm::distributed

#endif  // SIMDNORM_DISTRIBUTED_ENGINE_H_
