#include "native/dispatch/dispatch.h"

#include <atomic>

#include "native/dispatch/cpu.h"

namespace simdnorm {

#define SIMDNORM_ISA(name) extern const KernelTable k_##name;
#include "native/isa.inc"
#undef SIMDNORM_ISA

namespace dispatch {
namespace {

struct Entry {
  const KernelTable* table;
  bool (*supported)();
};

const Entry kEntries[] = {
#define SIMDNORM_ISA(name) {&k_##name, cpu::name},
#include "native/isa.inc"
#undef SIMDNORM_ISA
};

constexpr size_t kUnset = SIZE_MAX;
std::atomic<size_t> g_active{kUnset};

}  // namespace

size_t count() { return sizeof kEntries / sizeof kEntries[0]; }
const KernelTable& table(size_t i) { return *kEntries[i].table; }
bool supported(size_t i) { return i < count() && kEntries[i].supported(); }

size_t active_index() {
  const size_t chosen = g_active.load(std::memory_order_relaxed);
  if (chosen != kUnset) return chosen;
  size_t best = 0;
  while (!supported(best)) best++;  // the last one always is
  size_t unset = kUnset;
  g_active.compare_exchange_strong(unset, best);
  return unset == kUnset ? best : unset;
}

const KernelTable& active() { return table(active_index()); }

bool use(size_t i) {
  if (!supported(i)) return false;
  g_active.store(i);
  return true;
}

}  // namespace dispatch
}  // namespace simdnorm
