// The life of one unit of work, as others may see it: queued, running, then done or cancelled.
#pragma once

#include <functional>

#include "futex.h"

namespace corestream {

class Completion {
 public:
  enum class State : uint32_t { queued = 0, running = 1, done = 2, cancelled = 3 };

  Completion() noexcept;
  virtual ~Completion();
  Completion(const Completion&) = delete;
  Completion& operator=(const Completion&) = delete;

  State state() const noexcept { return State(word_.load(std::memory_order_acquire) & kStateMask); }
  bool is_over() const noexcept { return state() >= State::done; }

  // False if the wait timed out. Throws ForkedFuture where the work is in a parent process.
  bool wait(const Deadline& deadline, std::chrono::nanoseconds spin) const;

  // Called once, on the thread that ends the work, or here and now if it is over.
  // The callback must not throw.
  void add_callback(std::function<void()> callback);

  // One of these wins, if several threads race. cancel() is true for the winner only.
  bool try_start() noexcept { return transition(State::queued, State::running); }
  bool try_cancel() noexcept;
  void finish() noexcept;

 private:
  struct Callback {
    std::function<void()> run;
    Callback* next;
  };

  static constexpr uint32_t kStateMask = 3, kHasWaiters = 4;

  bool transition(State from, State to) noexcept;
  void announce(State state) noexcept;

  mutable std::atomic<uint32_t> word_{0};
  std::atomic<Callback*> callbacks_{nullptr};
  uint64_t generation_;
};

}  // namespace corestream
