#include "fork.h"

#include <thread>

#include "openmp.h"
#include "support.h"
#include "team_pin.h"

namespace corestream {
namespace {

TEST(each_child_is_a_generation) {
  register_fork_handlers();
  const auto own = process_generation();
  CHECK(succeeds_in_child([&] {
    return process_generation() == own + 1 &&
           succeeds_in_child([&] { return process_generation() == own + 2; });
  }));
  CHECK_EQ(process_generation(), own);
}

TEST(a_child_is_not_pinned) {
  register_fork_handlers();
  const CpuList before = affinity().get(0);
  const TeamPin outer({before.back()});
  const TeamPin inner({before.front()});
  CHECK(succeeds_in_child(
      [&] { return affinity().get(0) == before && TeamPin::innermost() == nullptr; }));
  CHECK_EQ(affinity().get(0), CpuList{before.front()});
  CHECK(TeamPin::innermost() == &inner);
}

TEST(a_child_may_leave_its_parents_scopes) {
  register_fork_handlers();
  const CpuList before = affinity().get(0);
  auto pin = std::make_unique<TeamPin>(CpuList{before.back()});
  CHECK(succeeds_in_child([&] {
    pin.reset();
    return affinity().get(0) == before;
  }));
}

// Without the release before the fork, the child would wait at a barrier for threads that are
// gone. A no-op where no OpenMP runtime is loaded.
TEST(a_child_may_open_regions_after_its_parent_did) {
  register_fork_handlers();
  const auto region = [] {
    std::atomic<int> members{0};
    return run_on_team(2, [&](int) { ++members; }) == members;
  };
  CHECK(region());
  CHECK(succeeds_in_child(region));
  CHECK(region());
}

TEST(a_fork_leaves_the_parents_team_pinned) {
  register_fork_handlers();
  const SimulatedCpus machine(4);
  const TeamPin pin({2, 3});
  CHECK(succeeds_in_child([] { return true; }));
  if (openmp().kind == OpenMPKind::none) return;
  run_on_team(2, [](int member) { CHECK_EQ(affinity().get(0), CpuList{2 + member}); });
}

TEST(native_sections_nest) {
  const NativeSection outer;
  const NativeSection inner;
  CHECK(succeeds_in_child([] {
    const NativeSection in_child;
    return true;
  }));
}

// The stream stays inside for as long as it likes: the fork waits, but not for ever, and the
// child's gate is open.
TEST(a_native_section_that_does_not_end_delays_a_fork_only) {
  register_fork_handlers();
  std::latch inside(1), gate(1);
  std::thread stream([&] {
    const NativeSection section;
    inside.count_down();
    gate.wait();
  });
  inside.wait();
  CHECK(succeeds_in_child([] {
    const NativeSection section;
    return true;
  }));
  gate.count_down();
  stream.join();
}

TEST(a_child_finds_a_mutex_free_that_a_thread_of_its_parent_holds) {
  register_fork_handlers();
  ProcessMutex mutex;
  std::latch locked(1), gate(1);
  std::thread holder([&] {
    const auto lock = mutex.lock();
    locked.count_down();
    gate.wait();
  });
  locked.wait();
  CHECK(succeeds_in_child([&] { return mutex.lock().owns_lock(); }));
  gate.count_down();
  holder.join();
  CHECK(mutex.lock().owns_lock());
}

TEST(forks_race_with_native_sections) {
  register_fork_handlers();
  std::atomic<bool> is_over{false};
  std::vector<std::thread> streams;
  for (int stream = 0; stream < 2; ++stream) {
    streams.emplace_back([&] {
      while (!is_over) {
        const NativeSection section;
      }
    });
  }
  for (int round = 0; round < 20; ++round) {
    CHECK(succeeds_in_child([] {
      const NativeSection section;
      return true;
    }));
  }
  is_over = true;
  for (auto& stream : streams) stream.join();
}

}  // namespace
}  // namespace corestream
