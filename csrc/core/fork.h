// What fork does to pools: threads do not survive it, so a child must never wait for one.
#pragma once

#include <atomic>
#include <cstdint>
#include <mutex>

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

// Whether the calling thread is inside one.
bool is_in_native_section() noexcept;

// A mutex that a forked child finds free, whatever a thread of its parent was doing.
class ProcessMutex {
 public:
  ProcessMutex() = default;
  ~ProcessMutex();
  ProcessMutex(const ProcessMutex&) = delete;
  ProcessMutex& operator=(const ProcessMutex&) = delete;

  [[nodiscard]] std::unique_lock<std::mutex> lock();

 private:
  struct OfOneProcess {
    uint64_t generation = process_generation();
    std::mutex mutex;
  };

  std::atomic<OfOneProcess*> current_{new OfOneProcess};
};

}  // namespace corestream
