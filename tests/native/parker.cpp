#include "parker.h"

#include <thread>

#include "support.h"

namespace corestream {
namespace {

TEST(a_signal_stays_until_it_is_taken) {
  Parker parker;
  parker.notify();
  parker.notify();
  parker.wait(0ns);
  CHECK(!parker.is_asleep());
}

TEST(a_sleeping_thread_is_woken) {
  Parker parker;
  std::thread owner([&] { parker.wait(0ns); });
  while (!parker.is_asleep()) std::this_thread::yield();
  parker.notify();
  owner.join();
  CHECK(!parker.is_asleep());
}

// What one side wrote before its signal is there when the other side has taken it.
void exchange_signals(std::chrono::nanoseconds spin) {
  constexpr int kRounds = 5000;
  Parker to, back;
  int value = 0;
  std::thread other([&] {
    for (int round = 0; round < kRounds; ++round) {
      to.wait(spin);
      ++value;
      back.notify();
    }
  });
  for (int round = 0; round < kRounds; ++round) {
    const int before = value;
    to.notify();
    back.wait(spin);
    if (value != before + 1) CHECK_EQ(value, before + 1);
  }
  other.join();
  CHECK_EQ(value, kRounds);
}

TEST(no_signal_is_lost_between_sleepers) { exchange_signals(0ns); }

TEST(no_signal_is_lost_between_spinners) { exchange_signals(20us); }

}  // namespace
}  // namespace corestream
