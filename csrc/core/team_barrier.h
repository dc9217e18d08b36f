// Where the members of a team meet between pieces of work that are much shorter than what a team
// takes to end and to begin anew.
#pragma once

#include <chrono>

#include "futex.h"

namespace corestream {

class TeamBarrier {
 public:
  // Returns once all members have come; what they did before is seen after.
  void wait(int members) noexcept {
    const uint32_t round = round_.load(std::memory_order_relaxed);
    if (arrived_.fetch_add(1, std::memory_order_acq_rel) + 1 == members) {
      arrived_.store(0, std::memory_order_relaxed);
      round_.fetch_add(1, std::memory_order_seq_cst);
      if (sleepers_.load(std::memory_order_seq_cst) > 0) futex_wake_all(round_);
      return;
    }
    const auto is_over = [&] { return round_.load(std::memory_order_acquire) != round; };
    // Without giving its CPU away, which is its own, for the half microsecond that members are
    // apart where the work is divided well.
    for (int turn = 0; turn < kTurns; ++turn) {
      if (is_over()) return;
      spin_pause(/*turn=*/1);
    }
    if (spin_until(is_over, kSpin)) return;
    sleepers_.fetch_add(1, std::memory_order_seq_cst);
    while (!is_over()) futex_wait(round_, round, std::nullopt);
    sleepers_.fetch_sub(1, std::memory_order_relaxed);
  }

  // Members that have spun for nothing, and may be in the kernel.
  int num_asleep() const noexcept { return sleepers_.load(std::memory_order_relaxed); }

 private:
  static constexpr int kTurns = 100;
  // Longer than members of a team are apart, unless one of them has lost its CPU.
  static constexpr std::chrono::microseconds kSpin{100};

  alignas(64) std::atomic<int> arrived_{0};
  alignas(64) std::atomic<uint32_t> round_{0};
  std::atomic<int> sleepers_{0};
};

}  // namespace corestream
