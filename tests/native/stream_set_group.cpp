#include <thread>

#include "corestream/errors.h"
#include "support.h"
#include "task_group.h"

namespace corestream {
namespace {

using State = Completion::State;

std::vector<std::shared_ptr<Job>> make_parts(int count) {
  std::vector<std::shared_ptr<Job>> parts;
  for (int part = 0; part < count; ++part) parts.push_back(make_job());
  return parts;
}

TEST(parts_run_side_by_side) {
  const SimulatedCpus machine(3);
  const Streams streams(one_cpu_each(3));
  // The parts meet: none ends before all run, so each needs a stream of its own.
  std::latch all(3);
  std::vector<std::shared_ptr<Job>> parts;
  for (int part = 0; part < 3; ++part) {
    parts.push_back(make_job([&](const StreamContext&) { all.arrive_and_wait(); }));
  }
  // Idle again after their start, whatever the order they started in.
  streams->on_every_stream([](const StreamContext&) {});
  const auto group = std::make_shared<TaskGroup>(parts);
  group->post_to(*streams);
  wait_for(*group);
  CHECK(group->state() == State::done);
  std::vector<int> seen(3);
  for (const auto& part : parts) ++seen[static_cast<TestJob&>(*part).stream_index];
  CHECK_EQ(seen, (std::vector<int>{1, 1, 1}));
}

TEST(more_parts_than_streams_all_run) {
  const SimulatedCpus machine(2);
  const Streams streams(one_cpu_each(2));
  for (int count = 1; count < 12; ++count) {
    const auto group = std::make_shared<TaskGroup>(make_parts(count));
    group->post_to(*streams);
    wait_for(*group);
    for (const auto& part : group->parts()) CHECK(part->state() == State::done);
  }
}

TEST(a_group_is_over_with_its_last_part) {
  const SimulatedCpus machine(2);
  const Streams streams(one_cpu_each(2));
  std::latch gate(1);
  const auto quick = make_job();
  const auto slow = make_job([&](const StreamContext&) { gate.wait(); });
  const auto group = std::make_shared<TaskGroup>(std::vector<std::shared_ptr<Job>>{quick, slow});
  group->post_to(*streams);
  wait_for(*quick);
  CHECK(!group->is_over());
  CHECK(!group->cancel(*streams));
  gate.count_down();
  wait_for(*group);
  CHECK(slow->is_over());
}

TEST(a_queued_group_is_cancelled_whole) {
  const SimulatedCpus machine(2);
  const Streams streams(one_cpu_each(2));
  const Blocker first(*streams, 0), second(*streams, 1);
  const auto group = std::make_shared<TaskGroup>(make_parts(3));
  group->post_to(*streams);
  CHECK_EQ(streams->pending(), 3u);
  CHECK(group->cancel(*streams));
  CHECK(!group->cancel(*streams));
  CHECK(group->state() == State::cancelled);
  CHECK_EQ(streams->pending(), 0u);
  for (const auto& part : group->parts()) {
    CHECK(part->state() == State::cancelled);
    CHECK(static_cast<TestJob&>(*part).is_dropped.load());
  }
}

TEST(a_group_that_has_begun_runs_whole) {
  const SimulatedCpus machine(2);
  const Streams streams(one_cpu_each(2));
  std::latch begun(1), gate(1);
  Blocker busy(*streams, 0);
  const auto running = make_job([&](const StreamContext&) {
    begun.count_down();
    gate.wait();
  });
  const auto waiting = make_job();
  const auto group =
      std::make_shared<TaskGroup>(std::vector<std::shared_ptr<Job>>{running, waiting});
  group->post_to(*streams);
  begun.wait();
  CHECK(!group->cancel(*streams));
  CHECK(waiting->state() == State::queued);
  gate.count_down();
  busy.release();
  wait_for(*group);
  CHECK(waiting->state() == State::done);
}

TEST(a_group_is_queued_whole_or_not_at_all) {
  const SimulatedCpus machine(2);
  StreamOptions options = one_cpu_each(2);
  options.queue_capacity = 2;
  const Streams streams(options);
  const Blocker first(*streams, 0), second(*streams, 1);
  const auto group = std::make_shared<TaskGroup>(make_parts(3));
  CHECK_THROWS(QueueFull, "3 task(s) with 0 of 2", group->post_to(*streams));
  CHECK_EQ(streams->pending(), 0u);
  CHECK(group->state() == State::cancelled);
  for (const auto& part : group->parts()) CHECK(part->state() == State::cancelled);
  const auto fits = std::make_shared<TaskGroup>(make_parts(2));
  fits->post_to(*streams);
  CHECK_EQ(streams->pending(), 2u);
}

TEST(idle_streams_count_as_room) {
  const SimulatedCpus machine(2);
  StreamOptions options = one_cpu_each(2);
  options.queue_capacity = 1;
  const Streams streams(options);
  // Idle once both have had a turn and have asked for more; until then there is less room.
  while (true) {
    const auto group = std::make_shared<TaskGroup>(make_parts(3));
    try {
      group->post_to(*streams);
    } catch (const QueueFull&) {
      std::this_thread::yield();
      continue;
    }
    wait_for(*group);
    CHECK(group->state() == State::done);
    break;
  }
}

TEST(groups_do_not_keep_themselves_alive) {
  const SimulatedCpus machine(2);
  std::weak_ptr<TaskGroup> done, refused;
  {
    const Streams streams(one_cpu_each(2));
    auto group = std::make_shared<TaskGroup>(make_parts(2));
    done = group;
    group->post_to(*streams);
    wait_for(*group);
    group.reset();
    streams->shutdown(/*wait=*/true, /*cancel_pending=*/false);
    group = std::make_shared<TaskGroup>(make_parts(2));
    refused = group;
    CHECK_THROWS(ShutDown, "", group->post_to(*streams));
  }
  CHECK(done.expired());
  CHECK(refused.expired());
}

TEST(many_threads_may_post_and_cancel_groups) {
  constexpr int kCallers = 3, kRounds = 200;
  const SimulatedCpus machine(2);
  const Streams streams(one_cpu_each(2));
  std::atomic<int> over{0};
  std::vector<std::thread> callers;
  for (int caller = 0; caller < kCallers; ++caller) {
    callers.emplace_back([&] {
      for (int round = 0; round < kRounds; ++round) {
        const auto group = std::make_shared<TaskGroup>(make_parts(2));
        group->post_to(*streams);
        const bool is_cancelled = round % 2 == 0 && group->cancel(*streams);
        wait_for(*group);
        over += group->state() == (is_cancelled ? State::cancelled : State::done);
      }
    });
  }
  for (auto& caller : callers) caller.join();
  CHECK_EQ(over.load(), kCallers * kRounds);
}

}  // namespace
}  // namespace corestream
