// Which instruction sets there are, and that choosing one that cannot run changes nothing.
#include "native/dispatch/dispatch.h"

#include <stdint.h>
#include <string.h>

#include "test/native/check.h"

namespace dispatch = simdnorm::dispatch;

namespace {

// An entry forgotten in a table is a null pointer there.
template <class T>
bool complete(const simdnorm::Kernels<T>& k) {
  return k.moments && k.moments_columns && k.merge_columns && k.apply_runs && k.apply_elements && k.apply_columns &&
         k.apply_by_row && k.normalize_rows && k.gate_runs && k.gate_elements && k.gate_by_row && k.grad_sums &&
         k.grad_elements && k.drain && k.backward_rows && k.grad_sums_row && k.grad_columns && k.slope_runs &&
         k.slope_elements && k.slope_columns && k.slope_by_row && k.squares && k.respond && k.respond_back &&
         k.respond_slope && k.from_pixels && k.to_pixels && k.window_sums;
}
template <class S>
bool complete(const simdnorm::Tallies<S>& k) {
  return k.centers && k.center && k.columns && k.run;
}
bool complete(const simdnorm::KernelTable& t) {
  return complete(t.f32) && complete(t.f64) && complete(t.f16) && complete(t.bf16) && complete(t.tally_f32) &&
         complete(t.tally_f64) && complete(t.tally_f16) && complete(t.tally_bf16) && complete(t.tally_u8) &&
         complete(t.tally_i8) && complete(t.tally_i16) && complete(t.tally_i32);
}

}  // namespace

int main() {
  const size_t count = dispatch::count();
  CHECK(count >= 1);
  CHECK(strcmp(dispatch::table(count - 1).name, "portable") == 0);
  CHECK(dispatch::supported(count - 1), "portable always is");
  CHECK(!dispatch::supported(count) && !dispatch::supported(SIZE_MAX));
  for (size_t i = 0; i < count; i++) {
    const simdnorm::KernelTable& table = dispatch::table(i);
    CHECK(complete(table), "%s", table.name);
    for (size_t j = 0; j < i; j++) CHECK(strcmp(table.name, dispatch::table(j).name) != 0, "%s twice", table.name);
  }

  size_t best = 0;
  while (!dispatch::supported(best)) best++;
  CHECK(dispatch::active_index() == best, "the best one before any choice");
  CHECK(&dispatch::active() == &dispatch::table(best));

  for (size_t i = 0; i < count + 2; i++) {
    const size_t before = dispatch::active_index();
    if (dispatch::supported(i)) {
      CHECK(dispatch::use(i));
      CHECK(dispatch::active_index() == i && &dispatch::active() == &dispatch::table(i));
    } else {
      CHECK(!dispatch::use(i));
      CHECK(dispatch::active_index() == before);
    }
    printf("%s: %s\n", i < count ? dispatch::table(i).name : "(none)", dispatch::supported(i) ? "yes" : "no");
  }
  CHECK(!dispatch::use(SIZE_MAX) && dispatch::active_index() == count - 1);
  return test::finish();
}
