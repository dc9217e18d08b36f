// The floor under every hand-over between threads: thread A wakes B, B wakes A, by futex.
//
//   futex_floor CPU_A CPU_B ROUND_TRIPS   prints the nanoseconds of each round trip
#include <linux/futex.h>
#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <thread>
#include <vector>

namespace {

using Clock = std::chrono::steady_clock;

bool pin(int cpu) {
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(cpu, &set);
  return sched_setaffinity(0, sizeof set, &set) == 0;
}

void wake(std::atomic<uint32_t>& word, uint32_t value) {
  word.store(value);
  syscall(SYS_futex, &word, FUTEX_WAKE_PRIVATE, 1, nullptr, nullptr, 0);
}

void wait_for(std::atomic<uint32_t>& word, uint32_t value) {
  uint32_t seen;
  while ((seen = word.load()) != value) {
    syscall(SYS_futex, &word, FUTEX_WAIT_PRIVATE, seen, nullptr, nullptr, 0);
  }
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 4) return EXIT_FAILURE;
  const int cpu_a = std::atoi(argv[1]), cpu_b = std::atoi(argv[2]);
  const auto count = static_cast<uint32_t>(std::atoi(argv[3]));
  // Each thread sleeps on a word of its own, on a cache line of its own.
  alignas(64) std::atomic<uint32_t> ping{0};
  alignas(64) std::atomic<uint32_t> pong{0};
  if (!pin(cpu_a)) return EXIT_FAILURE;
  std::thread partner([&] {
    if (!pin(cpu_b)) std::exit(EXIT_FAILURE);
    for (uint32_t turn = 1; turn <= count; ++turn) {
      wait_for(ping, turn);
      wake(pong, turn);
    }
  });
  std::vector<int64_t> samples;
  samples.reserve(count);
  for (uint32_t turn = 1; turn <= count; ++turn) {
    const auto start = Clock::now();
    wake(ping, turn);
    wait_for(pong, turn);
    samples.push_back(std::chrono::nanoseconds(Clock::now() - start).count());
  }
  partner.join();
  for (const int64_t sample : samples) std::printf("%lld\n", static_cast<long long>(sample));
}
