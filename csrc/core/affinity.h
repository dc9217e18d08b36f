// The one door to the kernel's affinity masks. Everything that reads or changes a mask goes
// through the layer in use, so that tests can stand a larger machine in for this one.
#pragma once

#include <sys/types.h>

#include <memory>

#include "cpu_list.h"

namespace corestream {

class AffinityLayer {
 public:
  virtual ~AffinityLayer() = default;

  // The CPUs that thread `tid` of this process may run on, ascending.
  virtual CpuList get(pid_t tid) = 0;

  // The CPUs that pools may be made of, ascending; empty if the kernel would not say.
  virtual const CpuList& allowed() const = 0;

  // Whether masks are only remembered, for tests.
  virtual bool is_simulated() const { return false; }

  // Throws AffinityError when the mask cannot be had.
  virtual void set(pid_t tid, const CpuList& cpus) = 0;
};

AffinityLayer& affinity();

// Tests only, and only while no pool exists: nullptr puts the kernel back.
void replace_affinity_layer(std::unique_ptr<AffinityLayer> layer);

// Pretends that the machine has CPUs 0..num_cpus-1: remembers masks, moves no thread.
std::unique_ptr<AffinityLayer> make_simulated_affinity(int num_cpus);

pid_t current_tid();

// The main thread's mask when the library was loaded.
const CpuList& startup_affinity();

}  // namespace corestream
