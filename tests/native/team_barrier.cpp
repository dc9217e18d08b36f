#include "team_barrier.h"

#include <thread>
#include <vector>

#include "support.h"

namespace corestream {
namespace {

// Each member writes its own number in a round, and reads all numbers in the next.
void run_rounds(int members, int rounds,
                const std::function<void(int, int, const TeamBarrier&)>& pause) {
  TeamBarrier barrier;
  std::vector<int> numbers(members, 0);
  std::atomic<int> wrong{0};
  std::vector<std::thread> team;
  for (int member = 0; member < members; ++member) {
    team.emplace_back([&, member] {
      for (int round = 1; round <= rounds; ++round) {
        pause(member, round, barrier);
        numbers[member] = round;
        barrier.wait(members);
        for (const int number : numbers) wrong += number != round;
        barrier.wait(members);
      }
    });
  }
  for (std::thread& thread : team) thread.join();
  CHECK_EQ(wrong.load(), 0);
}

TEST(one_member_waits_for_nobody) {
  run_rounds(1, 10, [](int, int, const TeamBarrier&) {});
}

TEST(what_members_wrote_before_is_seen_after) {
  run_rounds(2, 3000, [](int, int, const TeamBarrier&) {});
  run_rounds(5, 300, [](int, int, const TeamBarrier&) {});
}

TEST(members_that_sleep_are_woken) {
  run_rounds(3, 20, [](int member, int round, const TeamBarrier& barrier) {
    if (member != round % 3) return;
    while (barrier.num_asleep() < 2) std::this_thread::yield();
  });
}

}  // namespace
}  // namespace corestream
