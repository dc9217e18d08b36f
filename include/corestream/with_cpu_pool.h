// Pins the calling thread's OpenMP team to a pool for a scope.
#pragma once

#include <memory>

#include "corestream/cpu_pool.h"

namespace corestream {

class TeamPin;

// While it lives, parallel regions of this thread run pool.size() threads, thread i on CPU i of
// the pool. Its end puts back the team size and every mask. Scopes nest. Must end on the thread
// that began it. Throws AffinityError if a CPU cannot be had; then nothing has changed.
class WithCPUPool {
 public:
  explicit WithCPUPool(const CPUPool& pool);
  ~WithCPUPool();
  WithCPUPool(const WithCPUPool&) = delete;
  WithCPUPool& operator=(const WithCPUPool&) = delete;

 private:
  std::unique_ptr<TeamPin> pin_;
};

}  // namespace corestream
