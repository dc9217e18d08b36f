#include "affinity.h"

#include <thread>

#include "corestream/errors.h"
#include "support.h"

namespace corestream {
namespace {

TEST(a_mask_is_set_and_read_back) {
  const CpuList before = affinity().get(0);
  CHECK(!before.empty());
  affinity().set(0, {before.back()});
  CHECK_EQ(affinity().get(0), CpuList{before.back()});
  CHECK_EQ(affinity().get(current_tid()), CpuList{before.back()});
  affinity().set(0, before);
  CHECK_EQ(affinity().get(0), before);
}

TEST(a_thread_has_its_own_mask) {
  const CpuList before = affinity().get(0);
  std::thread([&] { affinity().set(0, {before.front()}); }).join();
  CHECK_EQ(affinity().get(0), before);
}

TEST(a_refused_mask_names_the_cpus) {
  const CpuList before = affinity().get(0);
  // Beyond the fixed 1024 CPUs of glibc's cpu_set_t, and beyond any machine.
  CHECK_THROWS(AffinityError, "90000-90001", affinity().set(0, {90000, 90001}));
  CHECK_EQ(affinity().get(0), before);
}

TEST(the_kernel_allows_what_the_process_started_with) {
  CHECK_EQ(affinity().allowed(), startup_affinity());
  CHECK_EQ(affinity().is_simulated(), false);
}

TEST(a_simulated_machine_remembers_masks) {
  const CpuList real = affinity().get(0);
  {
    const SimulatedCpus machine(6);
    CHECK(affinity().is_simulated());
    CHECK_EQ(affinity().allowed(), (CpuList{0, 1, 2, 3, 4, 5}));
    CHECK_EQ(affinity().get(0), affinity().allowed());
    affinity().set(0, {4, 99});
    CHECK_EQ(affinity().get(current_tid()), CpuList{4});
    std::thread([] { CHECK_EQ(affinity().get(0), affinity().allowed()); }).join();
    CHECK_THROWS(AffinityError, "6", affinity().set(0, {6}));
    CHECK_THROWS(AffinityError, "", affinity().set(0, {}));
  }
  CHECK_EQ(affinity().get(0), real);
}

}  // namespace
}  // namespace corestream
