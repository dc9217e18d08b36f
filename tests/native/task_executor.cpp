#include "corestream/task_executor.h"

#include <latch>
#include <set>

#include "support.h"

namespace corestream {
namespace {

using CoreIds = std::vector<std::int32_t>;

TEST(streams_take_the_parts_of_the_pool) {
  const SimulatedCpus machine(5);
  TaskExecutor executor(CPUPool{4, 3, 2, 1, 0}, 2);
  CHECK_EQ(executor.num_streams(), 2u);
  std::latch both(2), done(2);
  std::mutex mutex;
  std::set<CoreIds> seen;
  for (int job = 0; job < 2; ++job) {
    executor.post([&] {
      both.arrive_and_wait();
      {
        const std::lock_guard lock(mutex);
        seen.insert(TaskExecutor::current_stream_cpus());
      }
      done.count_down();
    });
  }
  done.wait();
  CHECK(seen == (std::set<CoreIds>{{4, 3, 2}, {1, 0}}));
  CHECK(TaskExecutor::current_stream_cpus().empty());
}

TEST(core_ids_alone_are_one_stream) {
  const SimulatedCpus machine(4);
  TaskExecutor executor(CoreIds{3, 1});
  CHECK_EQ(executor.num_streams(), 1u);
}

TEST(wrong_arguments_are_refused) {
  const SimulatedCpus machine(2);
  const CPUPool pool{0, 1};
  CHECK_THROWS(std::invalid_argument, "got 0", TaskExecutor(pool, 0));
  CHECK_THROWS(std::invalid_argument, "got 3", TaskExecutor(pool, 3));
  CHECK_THROWS(std::invalid_argument, "core_ids must be", TaskExecutor(CoreIds{}));
  CHECK_THROWS(std::invalid_argument, "may use (0-1); got [0-2]", TaskExecutor(CoreIds{0, 1, 2}));
}

TEST(the_destructor_runs_what_is_queued) {
  const SimulatedCpus machine(2);
  std::atomic<int> ran{0};
  {
    TaskExecutor executor(CPUPool{0, 1}, 2);
    for (int job = 0; job < 100; ++job) executor.post([&] { ++ran; });
  }
  CHECK_EQ(ran.load(), 100);
}

TEST(work_may_post_more_work) {
  const SimulatedCpus machine(1);
  TaskExecutor executor(CPUPool{0});
  std::latch done(1);
  executor.post([&] { executor.post([&] { done.count_down(); }); });
  done.wait();
}

TEST(what_work_captured_is_let_go) {
  const SimulatedCpus machine(1);
  const auto held = std::make_shared<int>(1);
  {
    TaskExecutor executor(CPUPool{0});
    executor.post([held] {});
  }
  CHECK_EQ(held.use_count(), 1);
}

TEST(a_child_may_post) {
  if (!kChildrenMayStartThreads) return;
  const SimulatedCpus machine(2);
  TaskExecutor executor(CPUPool{0, 1}, 2);
  CHECK(succeeds_in_child([&] {
    std::latch done(1);
    executor.post([&] { done.count_down(); });
    done.wait();
    return executor.num_streams() == 2;
  }));
}

TEST(the_real_cpus_make_an_executor) {
  TaskExecutor executor(CPUPool{allowed_cpus().front()});
  std::latch done(1);
  executor.post([&] {
    CHECK_EQ(affinity().get(0), CpuList{allowed_cpus().front()});
    done.count_down();
  });
  done.wait();
}

}  // namespace
}  // namespace corestream
