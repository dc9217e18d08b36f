#include "futex.h"

#include <linux/futex.h>
#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <climits>
#include <ctime>

namespace corestream {

void futex_wake_all(std::atomic<uint32_t>& word) noexcept {
  syscall(SYS_futex, &word, FUTEX_WAKE_PRIVATE, INT_MAX, nullptr, nullptr, 0);
}

void futex_wait(std::atomic<uint32_t>& word, uint32_t expected, const Deadline& deadline) noexcept {
  timespec left{};
  timespec* timeout = nullptr;
  if (deadline) {
    const auto now = Clock::now();
    if (now >= *deadline) return;
    const auto remaining = std::chrono::nanoseconds(*deadline - now).count();
    left.tv_sec = remaining / 1'000'000'000;
    left.tv_nsec = remaining % 1'000'000'000;
    timeout = &left;
  }
  syscall(SYS_futex, &word, FUTEX_WAIT_PRIVATE, expected, timeout, nullptr, 0);
}

void spin_pause(int turn) noexcept {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
  // The thread being waited for may want this very CPU: with as many streams as CPUs the
  // caller shares one with a stream.
  if (turn % 4 == 0) sched_yield();
}

}  // namespace corestream
