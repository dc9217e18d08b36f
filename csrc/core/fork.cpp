#include "fork.h"

#include <pthread.h>

#include <atomic>
#include <chrono>
#include <thread>

#include "affinity.h"
#include "openmp.h"
#include "team_pin.h"

namespace corestream {
namespace {

std::atomic<uint64_t> generation{0};
std::atomic<int> forks_under_way{0};
std::atomic<int> native_sections{0};
thread_local int native_depth = 0;

// Long enough for an inference to end, short enough that a task which needs the forking thread
// (it waits for the GIL, say) delays a fork and does not hang it.
constexpr auto kPatience = std::chrono::milliseconds(1000);

void before_fork() {
  forks_under_way.fetch_add(1);
  const int own = native_depth > 0 ? 1 : 0;
  const auto deadline = std::chrono::steady_clock::now() + kPatience;
  while (native_sections.load() > own && std::chrono::steady_clock::now() < deadline) {
    std::this_thread::yield();
  }
  release_idle_team();
}

void after_fork_in_parent() {
  forks_under_way.fetch_sub(1);
  forks_under_way.notify_all();
  // The team that was just released was pinned: its successors would all inherit one CPU.
  if (TeamPin* pin = TeamPin::innermost()) {
    try {
      pin->repin();
    } catch (const std::exception&) {
      // fork() has no way to report it; the audit shows a thread that is not in its place.
    }
  }
}

void after_fork_in_child() {
  generation.fetch_add(1);
  forks_under_way = 0;
  native_sections = native_depth > 0 ? 1 : 0;
  TeamPin::restore_after_fork();
}

}  // namespace

uint64_t process_generation() noexcept { return generation.load(std::memory_order_relaxed); }

void register_fork_handlers() {
  static const int registered =
      pthread_atfork(&before_fork, &after_fork_in_parent, &after_fork_in_child);
  (void)registered;
}

NativeSection::NativeSection() noexcept {
  if (native_depth++ > 0) return;
  while (true) {
    native_sections.fetch_add(1);
    const int under_way = forks_under_way.load();
    if (under_way == 0) return;
    native_sections.fetch_sub(1);
    forks_under_way.wait(under_way);
  }
}

NativeSection::~NativeSection() {
  if (--native_depth == 0) native_sections.fetch_sub(1);
}

bool is_in_native_section() noexcept { return native_depth > 0; }

ProcessMutex::~ProcessMutex() {
  // A parent's may be locked for good.
  OfOneProcess* own = current_.load();
  if (own->generation == process_generation()) delete own;
}

std::unique_lock<std::mutex> ProcessMutex::lock() {
  OfOneProcess* own = current_.load(std::memory_order_acquire);
  while (own->generation != process_generation()) {
    // The parent's stays where it is: a lock of it, copied by the fork, may yet be let go of.
    auto* fresh = new OfOneProcess;
    if (current_.compare_exchange_strong(own, fresh)) {
      own = fresh;
    } else {
      delete fresh;
    }
  }
  return std::unique_lock(own->mutex);
}

}  // namespace corestream
