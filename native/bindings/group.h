// Process groups for JavaScript: functions over a handle, the same for every engine and in every addon that has one.
//
//   groupRun(handle, block, header, input, output, headers, missing, detail): an Outcome
//   groupStart(the same, settle): 0, and settle(outcome) is called later; or the Outcome of what was not started
//   groupSplit(handle, ranks, timeoutMs, headers, missing, detail, made): an Outcome; made[0] is a handle, -1 for none
//   groupSplitStart(the same, settle)
//   groupClose(handle)
//
// The block is [kind, operation, root, timeoutMs]. Work that was started uses the memory of its arrays until settle:
// nobody but its caller may know them. Wrong arguments are kFailed with words in `detail`, and change nothing else.
#ifndef SIMDNORM_BINDINGS_GROUP_H_
#define SIMDNORM_BINDINGS_GROUP_H_

#include <node_api.h>
#include <stddef.h>

#include "native/distributed/engine.h"

namespace simdnorm::distributed {

// A handle for an engine, which is taken in any case; -1 without memory. It is good in this environment only, and until
// groupClose or the environment's end.
int adopt(napi_env env, Engine* engine);

// False for what is no length of time.
bool duration_of(double milliseconds, Deadline::duration* duration);

struct Function {
  const char* name;
  napi_callback callback;
};
constexpr size_t kGroupFunctions = 5;
extern const Function group_functions[kGroupFunctions];

}  // namespace simdnorm::distributed

#endif  // SIMDNORM_BINDINGS_GROUP_H_
