// The least that any implementation of a cell must do: the same bytes read and written, with one multiply-add, under
// the same protocol and in the same minutes, because the memory of a shared machine is not the same an hour later.
//   forward: y = a x + b, x being bytes for images.   backward: dx = a dy + x.   LIMIT_STREAM: with streaming stores
//   statistics: x is read, and added up
#include <stdint.h>
#include <stdlib.h>

#include <atomic>
#include <condition_variable>
#include <mutex>
#include <thread>

#include "bench/peers/serve.h"
#ifdef __AVX__
#include <immintrin.h>
#endif

namespace {

constexpr long kLine = 16;  // floats
typedef float Line __attribute__((vector_size(64), aligned(4), may_alias));

template <bool stream>
inline void store(float* to, Line v) {
#ifdef __AVX512F__
  if (stream) return _mm512_stream_ps(to, reinterpret_cast<__m512&>(v));
#elif defined(__AVX__)
  if (stream) {
    _mm256_stream_ps(to, reinterpret_cast<__m256*>(&v)[0]);
    return _mm256_stream_ps(to + 8, reinterpret_cast<__m256*>(&v)[1]);
  }
#endif
  *reinterpret_cast<Line*>(to) = v;
}

inline Line load(const float* from) { return *reinterpret_cast<const Line*>(from); }
inline Line load(const uint8_t* from) {
#ifdef __AVX512F__
  const __m512 v = _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from))));
  return reinterpret_cast<const Line&>(v);
#else
  typedef uint8_t Bytes __attribute__((vector_size(16), aligned(1), may_alias));
  return __builtin_convertvector(*reinterpret_cast<const Bytes*>(from), Line);  // which gcc 12 takes apart
#endif
}

template <bool stream, class X>
void forward(float* y, const X* x, long n) {
  for (long i = 0; i < n; i += 4 * kLine) {
    for (long k = i; k < i + 4 * kLine; k += kLine) store<stream>(y + k, load(x + k) * 1.1f + 0.1f);
  }
}

template <bool stream>
void backward(float* dx, const float* dy, const float* x, long n) {
  for (long i = 0; i < n; i += 4 * kLine) {
    for (long k = i; k < i + 4 * kLine; k += kLine) store<stream>(dx + k, load(dy + k) * 1.1f + load(x + k));
  }
}

void read(float* sum, const float* x, long n) {
  Line sums[8] = {};
  for (long i = 0; i < n; i += 8 * kLine) {
    for (long k = 0; k < 8; k++) sums[k] += load(x + i + k * kLine);
  }
  for (const Line& each : sums) store<false>(sum, load(sum) + each);
}

// A second thread that spins a little and then sleeps, so as not to disturb the other peers.
class Helper {
 public:
  Helper() {
    std::thread([this] { work(); }).detach();
  }

  void together(const std::function<void(int)>& part) {
    const int turn = turn_ + 1;
    part_ = &part;
    turn_ = turn;
    if (asleep_) {
      std::lock_guard<std::mutex> lock(mutex_);
      wake_.notify_one();
    }
    part(0);
    while (done_ != turn) {
    }
  }

 private:
  void work() {
    for (int seen = 0;;) {
      for (int spins = 0; turn_ == seen; spins++) {
        if (spins < 100000) continue;
        std::unique_lock<std::mutex> lock(mutex_);
        asleep_ = true;
        wake_.wait(lock, [&] { return turn_ != seen; });
        asleep_ = false;
      }
      seen++;
      (*part_)(1);
      done_ = seen;
    }
  }

  std::atomic<int> turn_{0}, done_{0};
  std::atomic<bool> asleep_{false};
  const std::function<void(int)>* part_ = nullptr;
  std::mutex mutex_;
  std::condition_variable wake_;
};

const bool kStream = getenv("LIMIT_STREAM") != nullptr;

serve::Job prepare(const serve::Cell& cell) {
#ifndef __AVX__
  if (kStream) throw std::runtime_error("no streaming stores here");
#endif
  if (cell.op == "none") throw std::runtime_error("there is nothing to do");
  const long n = (cell.count() + 255) / 256 * 256;
  const bool images = cell.op == "images", statistics = cell.op == "statistics";
  if (statistics && (kStream || cell.fresh())) throw std::runtime_error("nothing is stored");
  const serve::Array x(images ? n / 4 : n), y(n), dy = cell.backward() ? serve::Array(n) : serve::Array();
  const auto part = [=](float* out, long from, long size) {
    const float* const at = x.data() + from;
    if (images) {
      const uint8_t* const bytes = reinterpret_cast<const uint8_t*>(x.data()) + from;
      kStream ? forward<true>(out + from, bytes, size) : forward<false>(out + from, bytes, size);
    } else if (statistics) {
      read(out + from, at, size);
    } else if (cell.backward()) {
      kStream ? backward<true>(out + from, dy.data() + from, at, size)
              : backward<false>(out + from, dy.data() + from, at, size);
    } else {
      kStream ? forward<true>(out + from, at, size) : forward<false>(out + from, at, size);
    }
  };
  const bool alone = cell.threads < 2 || n < 4096;
  const auto whole = [=](float* out) {
    if (alone) return part(out, 0, n);
    static Helper* const helper = new Helper;
    const long half = n / 2 / 128 * 128;
    helper->together([&](int i) { i ? part(out, half, n - half) : part(out, 0, half); });
  };
  serve::Job job;
  job.run = [=] { whole(y.data()); };
  if (cell.fresh()) job.run = [=] { whole(serve::FreshOutput(n).data()); };
  return job;
}

}  // namespace

int main() { return serve::run("limit", kStream ? "streaming stores" : "ordinary stores", prepare); }
