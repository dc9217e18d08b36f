#include "executor.h"

#include <thread>

#include "corestream/errors.h"
#include "support.h"

namespace corestream {
namespace {

using State = Completion::State;

bool runs_a_job(Executor& executor) {
  const auto job = make_job();
  executor.streams()->post(job, {});
  wait_for(*job);
  return job->state() == State::done;
}

TEST(the_streams_stay_the_same) {
  const SimulatedCpus machine(2);
  Executor executor(one_cpu_each(2));
  CHECK(executor.streams() == executor.streams());
  CHECK_EQ(executor.streams()->size(), 2);
  CHECK(runs_a_job(executor));
}

TEST(the_destructor_runs_what_is_queued) {
  const SimulatedCpus machine(1);
  std::vector<std::shared_ptr<TestJob>> jobs;
  {
    Executor executor(one_cpu_each(1));
    const Blocker blocker(*executor.streams(), 0);
    for (int number = 0; number < 10; ++number) {
      jobs.push_back(make_job());
      executor.streams()->post(jobs.back(), {});
    }
  }
  for (const auto& job : jobs) CHECK(job->state() == State::done);
}

TEST(a_shutdown_is_for_good) {
  const SimulatedCpus machine(1);
  Executor executor(one_cpu_each(1));
  CHECK(!executor.is_shut_down());
  executor.shutdown(/*wait=*/true, /*cancel_pending=*/false);
  CHECK(executor.is_shut_down());
  CHECK_THROWS(ShutDown, "", executor.streams()->post(make_job(), {}));
  CHECK(succeeds_in_child([&] {
    CHECK_THROWS(ShutDown, "before the fork", executor.streams());
    return true;
  }));
}

TEST(a_child_gets_streams_of_its_own) {
  if (!kChildrenMayStartThreads) return;
  const SimulatedCpus machine(2);
  Executor executor(one_cpu_each(2));
  const auto parents = executor.streams();
  CHECK(runs_a_job(executor));
  CHECK(succeeds_in_child([&] {
    return runs_a_job(executor) && executor.streams() != parents && executor.streams()->size() == 2;
  }));
  CHECK(executor.streams() == parents);
  CHECK(runs_a_job(executor));
}

TEST(a_child_of_a_busy_parent_gets_streams_too) {
  if (!kChildrenMayStartThreads) return;
  const SimulatedCpus machine(2);
  Executor executor(one_cpu_each(2));
  const Blocker first(*executor.streams(), 0), second(*executor.streams(), 1);
  const auto queued = make_job();
  executor.streams()->post(queued, {});
  CHECK(succeeds_in_child(
      [&] { return runs_a_job(executor) && executor.streams()->pending() == 0; }));
  CHECK(queued->state() == State::queued);
}

TEST(threads_of_a_child_share_the_new_streams) {
  if (!kChildrenMayStartThreads) return;
  const SimulatedCpus machine(2);
  Executor executor(one_cpu_each(2));
  CHECK(succeeds_in_child([&] {
    std::vector<std::shared_ptr<StreamSet>> seen(4);
    std::vector<std::thread> threads;
    for (auto& slot : seen) threads.emplace_back([&] { slot = executor.streams(); });
    for (auto& thread : threads) thread.join();
    return std::all_of(seen.begin(), seen.end(), [&](const auto& s) { return s == seen[0]; });
  }));
}

TEST(a_grandchild_gets_streams_of_its_own) {
  if (!kChildrenMayStartThreads) return;
  const SimulatedCpus machine(1);
  Executor executor(one_cpu_each(1));
  CHECK(succeeds_in_child([&] {
    return runs_a_job(executor) && succeeds_in_child([&] { return runs_a_job(executor); }) &&
           runs_a_job(executor);
  }));
}

TEST(a_child_may_drop_the_executor) {
  const SimulatedCpus machine(2);
  auto executor = std::make_unique<Executor>(one_cpu_each(2));
  CHECK(succeeds_in_child([&] {
    executor.reset();
    return true;
  }));
  CHECK(runs_a_job(*executor));
}

TEST(a_child_may_drop_the_executor_after_use) {
  if (!kChildrenMayStartThreads) return;
  const SimulatedCpus machine(2);
  auto executor = std::make_unique<Executor>(one_cpu_each(2));
  CHECK(succeeds_in_child([&] {
    const bool ran = runs_a_job(*executor);
    executor.reset();
    return ran;
  }));
  CHECK(runs_a_job(*executor));
}

TEST(a_child_cannot_wait_for_its_parents_work) {
  const SimulatedCpus machine(1);
  Executor executor(one_cpu_each(1));
  const auto done = make_job(), queued = make_job();
  executor.streams()->post(done, {});
  wait_for(*done);
  const Blocker blocker(*executor.streams(), 0);
  executor.streams()->post(queued, {});
  CHECK(succeeds_in_child([&] {
    CHECK_THROWS(ForkedFuture, "before a fork", wait_for(*queued));
    CHECK_THROWS(ForkedFuture, "before a fork", wait_for(*blocker.job()));
    return done->wait(std::nullopt, 0ns);
  }));
}

}  // namespace
}  // namespace corestream
