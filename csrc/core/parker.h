// One thread's wait for one signal.
#pragma once

#include "futex.h"

namespace corestream {

class Parker {
 public:
  // Any thread. The signal stays until the owner takes it.
  void notify() noexcept {
    if (state_.exchange(kSignalled, std::memory_order_acq_rel) == kAsleep) futex_wake_all(state_);
  }

  // The owner only: returns once signalled, and takes the signal.
  void wait(std::chrono::nanoseconds spin) noexcept {
    const auto signalled = [this] { return state_.load(std::memory_order_acquire) == kSignalled; };
    if (!spin_until(signalled, spin)) {
      uint32_t expected = kAwake;
      if (state_.compare_exchange_strong(expected, kAsleep, std::memory_order_acq_rel)) {
        while (!signalled()) futex_wait(state_, kAsleep, std::nullopt);
      }
    }
    state_.store(kAwake, std::memory_order_relaxed);
  }

  // A hint for whoever may choose between threads: waking a sleeping one costs a system call.
  bool is_asleep() const noexcept { return state_.load(std::memory_order_relaxed) == kAsleep; }

 private:
  static constexpr uint32_t kAwake = 0, kSignalled = 1, kAsleep = 2;
  alignas(64) std::atomic<uint32_t> state_{kAwake};
};

}  // namespace corestream
