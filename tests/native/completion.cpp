#include "completion.h"

#include <barrier>
#include <thread>

#include "support.h"

namespace corestream {
namespace {

using State = Completion::State;

TEST(work_starts_once) {
  Completion work;
  CHECK(work.state() == State::queued);
  CHECK(work.try_start());
  CHECK(!work.try_start());
  CHECK(!work.try_cancel());
  CHECK(work.state() == State::running);
  CHECK(!work.is_over());
  work.finish();
  CHECK(work.state() == State::done);
  CHECK(work.is_over());
}

TEST(cancelled_work_never_starts) {
  Completion work;
  CHECK(work.try_cancel());
  CHECK(!work.try_cancel());
  CHECK(!work.try_start());
  CHECK(work.state() == State::cancelled);
  CHECK(work.wait(std::nullopt, 0ns));
}

TEST(of_start_and_cancel_one_wins) {
  constexpr int kRounds = 2000;
  std::vector<Completion> works(kRounds);
  std::vector<char> started(kRounds), cancelled(kRounds);
  std::barrier both(2);
  std::thread starter([&] {
    for (int round = 0; round < kRounds; ++round) {
      both.arrive_and_wait();
      started[round] = works[round].try_start();
    }
  });
  for (int round = 0; round < kRounds; ++round) {
    both.arrive_and_wait();
    cancelled[round] = works[round].try_cancel();
  }
  starter.join();
  int winners = 0;
  for (int round = 0; round < kRounds; ++round) winners += started[round] + cancelled[round];
  CHECK_EQ(winners, kRounds);
}

TEST(callbacks_run_once_in_their_order) {
  Completion work;
  std::vector<int> ran;
  for (int number = 0; number < 3; ++number) {
    work.add_callback([&ran, number] { ran.push_back(number); });
  }
  CHECK(work.try_start());
  CHECK(ran.empty());
  work.finish();
  CHECK_EQ(ran, (std::vector<int>{0, 1, 2}));
  work.add_callback([&ran] { ran.push_back(3); });
  CHECK_EQ(ran, (std::vector<int>{0, 1, 2, 3}));
}

TEST(a_cancel_runs_callbacks_too) {
  Completion work;
  int ran = 0;
  work.add_callback([&] { ++ran; });
  work.try_cancel();
  CHECK_EQ(ran, 1);
}

TEST(callbacks_of_unfinished_work_are_freed) {
  const auto held = std::make_shared<int>(1);
  {
    Completion work;
    work.add_callback([held] {});
    work.add_callback([held] {});
    CHECK_EQ(held.use_count(), 3);
  }
  CHECK_EQ(held.use_count(), 1);
}

TEST(callbacks_added_while_work_ends_all_run) {
  constexpr int kRounds = 1000, kAdders = 2;
  std::vector<Completion> works(kRounds);
  std::vector<std::atomic<int>> ran(kRounds);
  std::barrier all(kAdders + 1);
  const auto add = [&] {
    for (int round = 0; round < kRounds; ++round) {
      all.arrive_and_wait();
      works[round].add_callback([&, round] { ++ran[round]; });
      works[round].add_callback([&, round] { ++ran[round]; });
    }
  };
  std::thread first(add), second(add);
  for (int round = 0; round < kRounds; ++round) {
    all.arrive_and_wait();
    works[round].try_start();
    works[round].finish();
  }
  first.join();
  second.join();
  int complete = 0;
  for (const auto& count : ran) complete += count == 2 * kAdders;
  CHECK_EQ(complete, kRounds);
}

TEST(a_wait_times_out) {
  Completion work;
  CHECK(!work.wait(Clock::now() - 1s, 0ns));
  CHECK(!work.wait(Clock::now() + 2ms, 0ns));
  CHECK(!work.wait(Clock::now() + 2ms, 1ms));
  work.try_start();
  work.finish();
  CHECK(work.wait(Clock::now() - 1s, 0ns));
}

// Every waiter sees the end, whoever sleeps already and whoever comes too late to.
void check_waiters(const std::function<void(Completion&)>& end) {
  constexpr int kWaiters = 8;
  for (int round = 0; round < 100; ++round) {
    Completion work;
    std::latch ready(kWaiters);
    std::atomic<int> woken{0};
    std::vector<std::thread> waiters;
    for (int waiter = 0; waiter < kWaiters; ++waiter) {
      waiters.emplace_back([&, waiter] {
        ready.count_down();
        const Deadline deadline = waiter % 2 == 0 ? Deadline() : Clock::now() + 30s;
        woken += work.wait(deadline, waiter % 4 < 2 ? 0ns : 10us);
      });
    }
    ready.wait();
    end(work);
    for (auto& waiter : waiters) waiter.join();
    CHECK_EQ(woken.load(), kWaiters);
  }
}

TEST(finish_wakes_every_waiter) {
  check_waiters([](Completion& work) {
    work.try_start();
    work.finish();
  });
}

TEST(cancel_wakes_every_waiter) {
  check_waiters([](Completion& work) { work.try_cancel(); });
}

TEST(what_was_written_before_the_end_is_seen_after_it) {
  for (int round = 0; round < 500; ++round) {
    Completion work;
    int result = 0;
    std::thread worker([&] {
      work.try_start();
      result = round;
      work.finish();
    });
    work.wait(std::nullopt, 0ns);
    CHECK_EQ(result, round);
    worker.join();
  }
}

}  // namespace
}  // namespace corestream
