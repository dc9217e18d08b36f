#include "completion.h"

#include "corestream/errors.h"
#include "fork.h"

namespace corestream {
namespace {

// Stands in the list's head once the callbacks have run: a later one runs at once.
template <typename Node>
Node* closed() {
  return reinterpret_cast<Node*>(uintptr_t{1});
}

}  // namespace

Completion::Completion() noexcept : generation_(process_generation()) {}

Completion::~Completion() {
  Callback* next = callbacks_.load();
  while (next != nullptr && next != closed<Callback>()) {
    Callback* callback = next;
    next = callback->next;
    delete callback;
  }
}

bool Completion::wait(const Deadline& deadline, std::chrono::nanoseconds spin) const {
  if (spin_until([this] { return is_over(); }, spin)) return true;
  if (generation_ != process_generation()) {
    throw ForkedFuture(
        "the task must belong to this process; got one that was submitted before a fork; "
        "submit it again in the child");
  }
  while (true) {
    uint32_t word = word_.load(std::memory_order_acquire);
    if (State(word & kStateMask) >= State::done) return true;
    if (deadline && Clock::now() >= *deadline) return false;
    if ((word & kHasWaiters) == 0) {
      if (!word_.compare_exchange_weak(word, word | kHasWaiters)) continue;
      word |= kHasWaiters;
    }
    futex_wait(word_, word, deadline);
  }
}

void Completion::add_callback(std::function<void()> callback) {
  auto* node = new Callback{std::move(callback), callbacks_.load(std::memory_order_acquire)};
  while (node->next != closed<Callback>()) {
    if (callbacks_.compare_exchange_weak(node->next, node, std::memory_order_acq_rel)) return;
  }
  node->run();
  delete node;
}

bool Completion::transition(State from, State to) noexcept {
  uint32_t word = word_.load(std::memory_order_relaxed);
  while (State(word & kStateMask) == from) {
    const uint32_t next = (word & ~kStateMask) | static_cast<uint32_t>(to);
    if (word_.compare_exchange_weak(word, next, std::memory_order_acq_rel)) return true;
  }
  return false;
}

bool Completion::try_cancel() noexcept {
  if (!transition(State::queued, State::cancelled)) return false;
  announce(State::cancelled);
  return true;
}

void Completion::finish() noexcept { announce(State::done); }

void Completion::announce(State state) noexcept {
  const uint32_t before = word_.exchange(static_cast<uint32_t>(state), std::memory_order_acq_rel);
  if ((before & kHasWaiters) != 0) futex_wake_all(word_);
  Callback* newest = callbacks_.exchange(closed<Callback>(), std::memory_order_acq_rel);
  Callback* oldest = nullptr;
  while (newest != nullptr) {
    Callback* next = newest->next;
    newest->next = oldest;
    oldest = newest;
    newest = next;
  }
  while (oldest != nullptr) {
    Callback* next = oldest->next;
    oldest->run();
    delete oldest;
    oldest = next;
  }
}

}  // namespace corestream
