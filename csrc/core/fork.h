// What fork does to pools: threads do not survive it, so a child must never wait for one.
#pragma once

#include <cstdint>

namespace corestream {

// 0 in the first process, one more in each forked child. An object whose generation is not the
// current one belongs to a parent and must be left alone: its threads do not exist here.
uint64_t process_generation() noexcept;

// Registers the handlers, once per process.
//
// Before a fork: waits (bounded) until no stream is inside native code, so that the child does
// not inherit a lock of torch or oneDNN that a dead thread holds; and ends the calling thread's
// idle libgomp team, whose stale record is why a child of a process that has used OpenMP hangs
// in its first parallel region (gomp_team_start waits at a barrier for threads that are gone).
// In the child: a new generation, and the calling thread's own mask.
void register_fork_handlers();

// The gate every stream passes before it runs native code.
class NativeSection {
 public:
  NativeSection() noexcept;
  ~NativeSection();
  NativeSection(const NativeSection&) = delete;
  NativeSection& operator=(const NativeSection&) = delete;
};

}  // namespace corestream
