// Which kernels run: those built in, those this machine supports, and the one in use. Process-wide.
#ifndef SIMDNORM_DISPATCH_DISPATCH_H_
#define SIMDNORM_DISPATCH_DISPATCH_H_

#include <stddef.h>

#include "native/kernels/kernels.h"

namespace simdnorm {
namespace dispatch {

size_t count();                      // instruction sets in this build, best first
const KernelTable& table(size_t i);  // their kernels; callable only where supported(i)
bool supported(size_t i);

size_t active_index();  // the best supported one unless use() chose another
const KernelTable& active();
bool use(size_t i);  // false, and nothing changed, where it is not supported

}  // namespace dispatch
}  // namespace simdnorm

#endif  // SIMDNORM_DISPATCH_DISPATCH_H_
