// Tasks on pinned streams, without torch: counts primes, one half on each stream.
#include <corestream/corestream.h>

#include <algorithm>
#include <iostream>

namespace {

int count_primes(int first, int last) {
  int count = 0;
  for (int number = std::max(first, 2); number < last; ++number) {
    bool is_prime = true;
    for (int divisor = 2; divisor * divisor <= number && is_prime; ++divisor) {
      is_prime = number % divisor != 0;
    }
    count += is_prime ? 1 : 0;
  }
  return count;
}

}  // namespace

int main() {
  const corestream::CPUPool pool(corestream::allowed_cpus());
  const auto num_streams = std::min<std::size_t>(2, pool.size());
  const auto executor = std::make_shared<corestream::TaskExecutor>(pool, num_streams);
  const corestream::Task task(count_primes, executor);

  auto lower = task(0, 50'000);
  auto upper = task(50'000, 100'000);
  std::cout << "primes below 100000: " << lower.get() + upper.get() << "\n";
}
