// Waiting: a bounded spin, then sleep in the kernel. A wake-up across CPUs costs 30 us on a
// virtual machine (benchmarks/floor.py), a value seen while spinning costs well under one.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <optional>

namespace corestream {

using Clock = std::chrono::steady_clock;
using Deadline = std::optional<Clock::time_point>;

void futex_wake_all(std::atomic<uint32_t>& word) noexcept;

// Sleeps while `word` holds `expected`, until woken or `deadline`. May return early.
void futex_wait(std::atomic<uint32_t>& word, uint32_t expected, const Deadline& deadline) noexcept;

// Gives the CPU to whoever else wants it; cheap when nobody does.
void spin_pause(int turn) noexcept;

// Spins until done() or `budget` has passed; returns done().
template <typename Predicate>
bool spin_until(const Predicate& done, std::chrono::nanoseconds budget) {
  if (done()) return true;
  const auto end = Clock::now() + budget;
  for (int turn = 1;; ++turn) {
    spin_pause(turn);
    if (done()) return true;
    if (turn % 16 == 0 && Clock::now() >= end) return false;
  }
}

}  // namespace corestream
