// Tells ATen and MKL about a thread's team size when the core sets it.
//
// at::set_num_threads() would also store a process-wide default for new threads, resize
// QNNPACK's thread pool (which starts threads) and clear oneDNN's computation cache: none of it
// may happen to a caller who only enters `pin` or starts an executor.
#include <ATen/Parallel.h>

#include "fork.h"
#include "team_size.h"

// Exported by wheels that hold MKL (x86-64); absent elsewhere.
extern "C" __attribute__((weak)) int MKL_Set_Num_Threads_Local(int count);

namespace corestream {
namespace {

// ATen applies its process-wide count on a thread's first use, over whatever was set before:
// asking for the count makes that first use happen now. One thread at a time: in a forked child
// it also makes QNNPACK's pool anew, which torch 2.13 does without a lock.
void initialise_thread() {
  static ProcessMutex one_at_a_time;
  const NativeSection section;  // a fork waits for torch's own locks to be let go of
  const auto turn = one_at_a_time.lock();
  at::get_num_threads();
}

int exchange_library_threads(int count) {
  return MKL_Set_Num_Threads_Local == nullptr ? 0 : MKL_Set_Num_Threads_Local(count);
}

[[maybe_unused]] const bool registered = [] {
  set_team_size_hooks({&initialise_thread, &exchange_library_threads});
  return true;
}();

}  // namespace
}  // namespace corestream
