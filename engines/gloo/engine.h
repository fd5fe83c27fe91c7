// Groups over Gloo, PyTorch's engine for CPUs, and its own TCP transport.
#ifndef SIMDNORM_ENGINES_GLOO_ENGINE_H_
#define SIMDNORM_ENGINES_GLOO_ENGINE_H_

#include <gloo/context.h>
#include <gloo/transport/device.h>

#include <atomic>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "native/distributed/engine.h"

namespace simdnorm::distributed {

// The connections between all pairs of ranks, as Gloo's Context::connectFullMesh makes them, but that addresses are
// handed over from outside instead of through a Store.
class Mesh final : public gloo::Context {
 public:
  Mesh(std::shared_ptr<gloo::transport::Device> device, int rank, int size);
  // Ports where this rank waits for each other one, 0 for itself.
  std::vector<uint16_t> ports();
  void connect(int peer, const std::vector<char>& address);
  // Of waits that are not given a timeout of their own.
  void limit(std::chrono::milliseconds timeout);
  // All that waits here fails, and finds the connections closed, on this and on the other ranks.
  void poison();
};

class GlooEngine final : public Engine {
 public:
  // Listens at `host`, an address of this machine. Throws.
  GlooEngine(int rank, int size, const std::string& host);

  // What the other ranks need to connect to this one; as long on all ranks of a group of this size.
  static size_t card_bytes(int size);
  std::vector<uint8_t> card();

  int rank() const override { return rank_; }
  int size() const override { return size_; }
  // The first collective connects to the other ranks: instead of data it brings all ranks' cards, by rank.
  Outcome run(const Collective& c) override;
  Outcome split(const int* ranks, int count, const Collective& c, Engine** made) override;
  void close() override;

 private:
  template <class Body>
  Outcome guarded(const Collective& c, Body body);
  Outcome join(const Collective& c);
  Outcome connect(const uint8_t* cards, const Collective& c);
  Outcome perform(const Collective& c);
  // Sends `mine` to each rank and has `bytes` of each in all[rank].
  Outcome exchange(const void* mine, void* all, size_t bytes, Deadline deadline, const Collective& c);
  Outcome broken(Deadline deadline, size_t stride, const char* words, const Collective& c);
  // An algorithm of Gloo's, and what has become of it on all ranks.
  template <class Body>
  Outcome together(const Collective& c, Body body);
  void reduce(const Collective& c);
  void broadcast(const Collective& c);
  void connecting(GlooEngine* part);
  void poison();

  const int rank_, size_;
  const std::string host_;
  std::atomic<bool> closed_{false};
  bool connected_ = false, dead_ = false;
  uint64_t number_ = 0;
  // Gloo may write there until the meshes are gone.
  std::vector<uint8_t> incoming_, outgoing_;
  // Messages whose ranks are to be known, and Gloo's algorithms, which do not say whom they wait for: a failure there
  // is looked into here.
  std::unique_ptr<Mesh> direct_;
  std::shared_ptr<Mesh> collective_;
  std::mutex mutex_;
  GlooEngine* part_ = nullptr;  // that is being connected
};

}  // namespace simdnorm::distributed

#endif  // SIMDNORM_ENGINES_GLOO_ENGINE_H_
