#include "corestream/cpu_pool.h"

#include <numeric>

#include "support.h"

namespace corestream {
namespace {

TEST(core_ids_keep_their_order) {
  const SimulatedCpus machine(8);
  const CPUPool pool{6, 2, 3};
  CHECK_EQ(pool.core_ids(), (std::vector<std::int32_t>{6, 2, 3}));
  CHECK_EQ(pool.size(), 3u);
  CHECK_EQ(to_string(pool), "6,2-3");
  CHECK(pool == CPUPool(std::vector<std::int32_t>{6, 2, 3}));
  CHECK(!(pool == CPUPool{2, 3, 6}));
}

TEST(wrong_core_ids_are_refused) {
  const SimulatedCpus machine(4);
  CHECK_THROWS(std::invalid_argument, "at least one CPU", CPUPool(std::vector<std::int32_t>{}));
  CHECK_THROWS(std::invalid_argument, "got [0,-1]", CPUPool({0, -1}));
  CHECK_THROWS(std::invalid_argument, "distinct; got [0,2,0]", CPUPool({0, 2, 0}));
  CHECK_THROWS(std::invalid_argument, "may use (0-3); got [0,4]", CPUPool({0, 4}));
}

TEST(allowed_cpus_make_a_pool) {
  CHECK_EQ(allowed_cpus(), startup_affinity());
  CHECK_EQ(CPUPool(allowed_cpus()).core_ids(), startup_affinity());
  const SimulatedCpus machine(3);
  CHECK_EQ(allowed_cpus(), (std::vector<std::int32_t>{0, 1, 2}));
}

TEST(split_parts_are_consecutive_and_even) {
  const SimulatedCpus machine(17);
  for (int size = 1; size <= 17; ++size) {
    std::vector<std::int32_t> core_ids(size);
    std::iota(core_ids.rbegin(), core_ids.rend(), 0);
    const CPUPool pool(core_ids);
    for (size_t parts = 1; parts <= pool.size(); ++parts) {
      std::vector<std::int32_t> joined;
      const auto pools = pool.split(parts);
      CHECK_EQ(pools.size(), parts);
      for (size_t part = 0; part < parts; ++part) {
        CHECK_EQ(pools[part].size(), size / parts + (part < size % parts ? 1 : 0));
        joined.insert(joined.end(), pools[part].core_ids().begin(), pools[part].core_ids().end());
      }
      CHECK_EQ(joined, core_ids);
    }
  }
}

TEST(split_refuses_parts_without_a_cpu) {
  const SimulatedCpus machine(2);
  const CPUPool pool{0, 1};
  CHECK_THROWS(std::invalid_argument, "between 1 and 2; got 0", pool.split(0));
  CHECK_THROWS(std::invalid_argument, "between 1 and 2; got 3", pool.split(3));
}

}  // namespace
}  // namespace corestream
