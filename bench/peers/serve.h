// What the peers in C++ share: inputs, timing, and the protocol of protocol.md.
#ifndef SIMDNORM_BENCH_PEERS_SERVE_H_
#define SIMDNORM_BENCH_PEERS_SERVE_H_

#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include <algorithm>
#include <chrono>
#include <fstream>
#include <functional>
#include <iostream>
#include <memory>
#include <new>
#include <sstream>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

namespace serve {

// Pages of its own, aligned and touched; they go back to the system at once. BENCH_HUGE asks for huge ones.
class Memory {
 public:
  explicit Memory(size_t bytes) : bytes_(std::max<size_t>(bytes, 4096)) {
    data_ = mmap(nullptr, bytes_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (data_ == MAP_FAILED) throw std::bad_alloc();
    if (getenv("BENCH_HUGE")) madvise(data_, bytes_, MADV_HUGEPAGE);
    memset(data_, 0, bytes_);
  }
  ~Memory() { munmap(data_, bytes_); }
  Memory(const Memory&) = delete;
  Memory& operator=(const Memory&) = delete;
  float* floats() const { return static_cast<float*>(data_); }

 private:
  void* data_;
  size_t bytes_;
};

// n floats, shared by whoever works with them.
class Array {
 public:
  Array() = default;
  explicit Array(size_t n) : size_(n), memory_(std::make_shared<Memory>(n * sizeof(float))) {}
  // n numbers from shift to shift + scale, the same in every run and every language
  Array(size_t n, uint32_t seed, double scale, double shift) : Array(n) {
    for (size_t i = 0; i < n; i++) {
      uint32_t h = (static_cast<uint32_t>(i) + seed * 0x9E3779B1u) * 0x85EBCA6Bu;
      h = (h ^ h >> 15) * 0xC2B2AE35u;
      data()[i] = static_cast<float>(((h ^ h >> 13) >> 8) / 16777216.0 * scale + shift);
    }
  }
  float* data() const { return memory_ ? memory_->floats() : nullptr; }
  size_t size() const { return size_; }

 private:
  size_t size_ = 0;
  std::shared_ptr<Memory> memory_;
};

// An output as any library gets one: from the C allocator, and given back.
class FreshOutput {
 public:
  explicit FreshOutput(size_t n) : data_(static_cast<float*>(aligned_alloc(64, (n * sizeof(float) + 63) / 64 * 64))) {
    if (!data_) throw std::bad_alloc();
  }
  ~FreshOutput() { free(data_); }
  FreshOutput(const FreshOutput&) = delete;
  FreshOutput& operator=(const FreshOutput&) = delete;
  float* data() const { return data_; }

 private:
  float* data_;
};

struct Cell {
  std::string op;
  std::vector<long> shape;
  long param = 0;
  std::string layout, mode;
  int threads = 1;
  std::string variant;

  bool channels_last() const { return layout == "nhwc"; }
  bool backward() const { return mode == "backward"; }
  bool fresh() const { return variant == "fresh"; }
  bool by_rows() const { return op == "layernorm" || op == "rmsnorm"; }
  long product(size_t from) const {
    long all = 1;
    for (size_t i = from; i < shape.size(); i++) all *= shape[i];
    return all;
  }
  long count() const { return product(0); }
  long batch() const { return shape[0]; }
  long channels() const { return shape.size() > 1 ? shape[1] : 1; }
  long plane() const { return product(2); }
  long parameters() const { return by_rows() ? product(shape.size() - static_cast<size_t>(param)) : channels(); }

  Array x() const { return Array(count(), 1, 4, -1); }
  Array dy() const { return Array(count(), 2, 2, -1); }
  Array weight() const { return Array(parameters(), 3, 1, 0.5); }
  Array bias() const { return Array(parameters(), 4, 1, -0.5); }
  Array running_mean() const { return Array(channels(), 5, 1, 0); }
  Array running_var() const { return Array(channels(), 6, 1, 0.5); }
};

struct Job {
  std::function<void()> run;
  std::vector<std::pair<std::string, Array>> results;  // what run leaves, by name
  std::string note;
};

namespace internal {

constexpr double kSampleUs = 50;
constexpr double kSlowUs = 4e5;  // a call this long is not repeated

inline double now_us() {
  return std::chrono::duration<double, std::micro>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

inline double each(const Job& job, int calls) {
  const double begin = now_us();
  for (int i = 0; i < calls; i++) job.run();
  return (now_us() - begin) / calls;
}

inline std::string time(const Job& job, double ms, int* calls) {
  std::vector<double> samples = {each(job, 1)};
  if (samples[0] < kSlowUs) {
    samples.clear();
    if (!*calls) {
      for (*calls = 1; *calls < 4096 && each(job, *calls) * *calls < kSampleUs;) *calls *= 2;
    }
    const double end = now_us() + ms * 1e3;
    while (samples.size() < 3 || now_us() < end) samples.push_back(each(job, *calls));
  }
  std::sort(samples.begin(), samples.end());
  const size_t half = samples.size() / 2;
  const double median = samples.size() % 2 ? samples[half] : (samples[half - 1] + samples[half]) / 2;
  std::ostringstream answer;
  answer << "{\"us\":" << median << ",\"least\":" << samples[0] << "}";
  return answer.str();
}

inline std::string results_of(const Job& job, const std::string& folder) {
  std::ostringstream answer;
  answer << "{\"results\":[";
  for (size_t i = 0; folder != "-" && i < job.results.size(); i++) {
    const auto& [name, array] = job.results[i];
    std::ofstream file(folder + "/" + name, std::ios::binary);
    file.write(reinterpret_cast<const char*>(array.data()), static_cast<std::streamsize>(array.size() * sizeof(float)));
    answer << (i ? "," : "") << "\"" << name << "\"";
  }
  answer << "]";
  if (!job.note.empty()) answer << ",\"note\":\"" << job.note << "\"";
  answer << "}";
  return answer.str();
}

}  // namespace internal

// `prepare` gives the job of a cell, or throws why not.
inline int run(const std::string& peer, const std::string& version, const std::function<Job(const Cell&)>& prepare) {
  std::cout << "{\"peer\":\"" << peer << "\",\"version\":\"" << version << "\"}" << std::endl;
  Job job;
  int calls = 0;
  std::string line, word;
  while (std::getline(std::cin, line)) {
    std::stringstream words(line);
    words >> word;
    if (word == "time") {
      double ms;
      words >> ms;
      std::cout << internal::time(job, ms, &calls) << std::endl;
    } else if (word == "cell") {
      Cell cell;
      std::string shape, folder;
      words >> cell.op >> shape >> cell.param >> cell.layout >> cell.mode >> cell.threads >> cell.variant >> folder;
      for (std::stringstream sizes(shape); std::getline(sizes, word, ',');) cell.shape.push_back(std::stol(word));
      job = Job();
      calls = 0;
      try {
        job = prepare(cell);
        job.run();
        std::cout << internal::results_of(job, folder) << std::endl;
      } catch (const std::exception& error) {
        std::cout << "{\"unsupported\":\"" << error.what() << "\"}" << std::endl;
      }
    } else {
      break;
    }
  }
  return 0;
}

}  // namespace serve

#endif  // SIMDNORM_BENCH_PEERS_SERVE_H_
