// Full queues, shutdowns, and streams that cannot start.
#include <filesystem>
#include <fstream>
#include <thread>

#include "corestream/errors.h"
#include "support.h"

namespace corestream {
namespace {

using State = Completion::State;

// Threads of this process whose name starts with `prefix`.
int count_threads(const std::string& prefix) {
  int count = 0;
  for (const auto& task : std::filesystem::directory_iterator("/proc/self/task")) {
    std::string name;
    std::getline(std::ifstream(task.path() / "comm"), name);
    count += name.starts_with(prefix) ? 1 : 0;
  }
  return count;
}

// A joined thread leaves /proc a moment after the join returns.
void wait_until_no_threads(const std::string& prefix) {
  while (count_threads(prefix) > 0) std::this_thread::yield();
}

TEST(a_bounded_queue_says_when_it_is_full) {
  const SimulatedCpus machine(1);
  StreamOptions options = one_cpu_each(1);
  options.queue_capacity = 2;
  const Streams streams(options);
  Blocker blocker(*streams, 0);
  const auto first = make_job(), second = make_job(), third = make_job();
  streams->post(first, {});
  streams->post(second, {});
  CHECK_THROWS(QueueFull, "2 of 2 waiting", streams->post(third, {}));
  CHECK(third->state() == State::queued);
  CHECK_EQ(streams->pending(), 2u);
  streams->post(third, {}, /*bounded=*/false);
  CHECK_EQ(streams->pending(), 3u);
  blocker.release();
  for (const auto& job : {first, second, third}) wait_for(*job);
}

TEST(a_shutdown_runs_what_is_queued) {
  const SimulatedCpus machine(2);
  std::vector<std::shared_ptr<TestJob>> jobs;
  {
    const Streams streams(one_cpu_each(2));
    const Blocker first(*streams, 0), second(*streams, 1);
    for (int number = 0; number < 20; ++number) {
      jobs.push_back(make_job());
      streams->post(jobs.back(), {number % 3 == 0 ? Lane::exclusive : Lane::any, number % 2});
    }
  }
  for (const auto& job : jobs) CHECK(job->state() == State::done);
}

TEST(a_shutdown_may_cancel_what_is_queued) {
  const SimulatedCpus machine(1);
  const Streams streams(one_cpu_each(1));
  Blocker blocker(*streams, 0);
  const auto job = make_job();
  streams->post(job, {});
  streams->shutdown(/*wait=*/false, /*cancel_pending=*/true);
  CHECK(job->state() == State::cancelled);
  CHECK(job->is_dropped.load());
  CHECK(blocker.job()->state() == State::running);
  blocker.release();
  streams->shutdown(/*wait=*/true, /*cancel_pending=*/false);
  CHECK(blocker.job()->state() == State::done);
}

TEST(nothing_is_taken_after_a_shutdown) {
  const SimulatedCpus machine(2);
  const Streams streams(one_cpu_each(2));
  streams->shutdown(/*wait=*/true, /*cancel_pending=*/false);
  streams->shutdown(/*wait=*/true, /*cancel_pending=*/true);
  const auto job = make_job();
  CHECK_THROWS(ShutDown, "after shutdown()", streams->post(job, {}));
  CHECK_THROWS(ShutDown, "", streams->post_group({job}));
  CHECK_THROWS(ShutDown, "", streams->on_every_stream([](const StreamContext&) {}));
  CHECK(job->state() == State::queued);
  CHECK_EQ(streams->pending(), 0u);
}

TEST(running_work_may_bring_forth_more_during_a_shutdown) {
  const SimulatedCpus machine(2);
  const auto child = make_job();
  std::latch begun(1), stopping(1);
  {
    const Streams streams(one_cpu_each(2));
    streams->post(make_job([&](const StreamContext& stream) {
                    begun.count_down();
                    stopping.wait();
                    stream.streams->post(child, {}, /*bounded=*/false);
                  }),
                  {});
    begun.wait();
    streams->shutdown(/*wait=*/false, /*cancel_pending=*/true);
    stopping.count_down();
  }
  CHECK(child->state() == State::done);
}

TEST(a_stream_does_not_wait_for_itself) {
  const SimulatedCpus machine(2);
  const Streams streams(one_cpu_each(2));
  const auto job = make_job([](const StreamContext& stream) {
    stream.streams->shutdown(/*wait=*/true, /*cancel_pending=*/false);
  });
  streams->post(job, {});
  wait_for(*job);
}

TEST(many_threads_may_shut_down) {
  const SimulatedCpus machine(2);
  const Streams streams(one_cpu_each(2));
  const auto job = make_job();
  streams->post(job, {});
  std::vector<std::thread> threads;
  for (int thread = 0; thread < 4; ++thread) {
    threads.emplace_back([&] { streams->shutdown(/*wait=*/true, /*cancel_pending=*/false); });
  }
  for (auto& thread : threads) thread.join();
  CHECK(job->state() == State::done);
}

TEST(posting_races_with_a_shutdown) {
  const SimulatedCpus machine(2);
  for (int round = 0; round < 50; ++round) {
    const Streams streams(one_cpu_each(2));
    std::latch begun(1);
    std::thread poster([&] {
      try {
        while (true) {
          streams->post(make_job(), {});
          if (!begun.try_wait()) begun.count_down();
        }
      } catch (const ShutDown&) {
      }
    });
    begun.wait();
    streams->shutdown(/*wait=*/true, /*cancel_pending=*/round % 2 == 0);
    poster.join();
    CHECK_EQ(streams->pending(), 0u);
  }
}

TEST(dropped_streams_end_by_themselves) {
  const SimulatedCpus machine(2);
  std::weak_ptr<StreamSet> weak;
  std::latch gate(1);
  const auto job = make_job([&](const StreamContext&) { gate.wait(); });
  {
    const auto streams = StreamSet::start(one_cpu_each(2));
    weak = streams;
    streams->post(job, {});
    streams->shutdown(/*wait=*/false, /*cancel_pending=*/false);
  }
  CHECK(!weak.expired());
  gate.count_down();
  wait_for(*job);
  while (!weak.expired()) std::this_thread::yield();
  wait_until_no_threads("cs");
}

TEST(a_thread_that_cannot_be_made_leaves_none) {
  const SimulatedCpus machine(3);
  for (const int succeeding : {0, 1, 2}) {
    StreamOptions options = one_cpu_each(3);
    options.name = "cs-few";
    fail_thread_creation_after(succeeding);
    CHECK_THROWS(std::system_error, "cannot start a stream's thread", StreamSet::start(options));
    wait_until_no_threads("cs-few");
    const Streams streams(options);
    CHECK_EQ(count_threads("cs-few"), 3);
  }
}

TEST(a_cpu_that_cannot_be_had_leaves_no_stream) {
  const SimulatedCpus machine(2);
  StreamOptions options;
  options.name = "cs-none";
  for (const CpuList& refused : {CpuList{2}, CpuList{7}}) {
    options.cpus = {{0}, refused, {1}};
    CHECK_THROWS(AffinityError, to_string(refused), StreamSet::start(options));
    wait_until_no_threads("cs-none");
  }
}

}  // namespace
}  // namespace corestream
