#include "team_pin.h"

#include <barrier>
#include <thread>

#include "corestream/errors.h"
#include "corestream/with_cpu_pool.h"
#include "openmp.h"
#include "support.h"

namespace corestream {
namespace {

bool has_openmp() { return openmp().kind != OpenMPKind::none; }

int max_threads() { return has_openmp() ? openmp().get_max_threads() : 1; }

// The masks of the members of a region of `size` threads; the caller's alone without OpenMP.
std::vector<CpuList> member_masks(int size) {
  std::vector<CpuList> masks(size);
  masks.resize(run_on_team(size, [&](int member) { masks[member] = affinity().get(0); }));
  return masks;
}

// Member i on cpus[i]; where there is one thread only, it may use all of them.
void check_team(const CpuList& cpus) {
  const auto masks = member_masks(static_cast<int>(cpus.size()));
  if (masks.size() == 1) {
    CpuList all = cpus;
    std::sort(all.begin(), all.end());
    CHECK_EQ(masks[0], all);
    return;
  }
  CHECK_EQ(masks.size(), cpus.size());
  for (size_t member = 0; member < cpus.size(); ++member) {
    CHECK_EQ(masks[member], CpuList{cpus[member]});
  }
  CHECK_EQ(max_threads(), static_cast<int>(cpus.size()));
}

TEST(the_kernel_pins_the_caller) {
  const CpuList before = affinity().get(0);
  const int threads = max_threads();
  {
    const TeamPin pin({before.back()});
    CHECK_EQ(affinity().get(0), CpuList{before.back()});
    CHECK(TeamPin::innermost() == &pin);
    CHECK_EQ(pin.member_tids(), std::vector<pid_t>{current_tid()});
    CHECK(!has_openmp() || max_threads() == 1);
  }
  CHECK_EQ(affinity().get(0), before);
  CHECK_EQ(max_threads(), threads);
  CHECK(TeamPin::innermost() == nullptr);
}

TEST(the_kernel_pins_every_member) {
  const CpuList before = affinity().get(0);
  {
    const WithCPUPool pin(CPUPool{allowed_cpus()});
    check_team(before);
  }
  CHECK_EQ(affinity().get(0), before);
  for (const CpuList& mask : member_masks(static_cast<int>(before.size()))) CHECK_EQ(mask, before);
}

TEST(members_follow_the_order_of_the_pool) {
  const SimulatedCpus machine(8);
  for (const CpuList& cpus : {CpuList{5}, CpuList{6, 1}, CpuList{7, 0, 3, 2}}) {
    const TeamPin pin(cpus);
    check_team(cpus);
    CHECK_EQ(pin.cpus(), cpus);
    CHECK_EQ(pin.member_tids().size(), has_openmp() ? cpus.size() : 1u);
  }
  CHECK_EQ(affinity().get(0), affinity().allowed());
}

TEST(scopes_nest) {
  const SimulatedCpus machine(8);
  const int threads = max_threads();
  {
    const WithCPUPool outer(CPUPool{0, 1, 2});
    check_team({0, 1, 2});
    for (const CpuList& cpus : {CpuList{4}, CpuList{5, 4}, CpuList{3, 4, 5}, CpuList{7, 6, 5, 4}}) {
      {
        const WithCPUPool inner(CPUPool{std::vector<std::int32_t>(cpus)});
        check_team(cpus);
      }
      check_team({0, 1, 2});
    }
  }
  CHECK_EQ(affinity().get(0), affinity().allowed());
  CHECK_EQ(max_threads(), threads);
}

int depth_pinned(int depth) {
  if (depth == 0) return 0;
  const TeamPin pin({depth % 4, 4 + depth % 4});
  const int below = depth_pinned(depth - 1);
  check_team({depth % 4, 4 + depth % 4});
  return below + 1;
}

TEST(scopes_recurse) {
  const SimulatedCpus machine(8);
  CHECK_EQ(depth_pinned(20), 20);
  CHECK_EQ(affinity().get(0), affinity().allowed());
}

TEST(an_exception_ends_a_scope) {
  const SimulatedCpus machine(4);
  const int threads = max_threads();
  CHECK_THROWS(std::runtime_error, "from inside", {
    const WithCPUPool pin(CPUPool{2, 3});
    throw std::runtime_error("from inside");
  });
  CHECK_EQ(affinity().get(0), affinity().allowed());
  CHECK_EQ(max_threads(), threads);
  CHECK(TeamPin::innermost() == nullptr);
}

TEST(threads_pin_independently) {
  constexpr int kThreads = 4, kRounds = 50;
  const SimulatedCpus machine(2 * kThreads);
  std::barrier all(kThreads);
  std::vector<std::thread> threads;
  for (int thread = 0; thread < kThreads; ++thread) {
    threads.emplace_back([&, thread] {
      const int threads_before = max_threads();
      for (int round = 0; round < kRounds; ++round) {
        all.arrive_and_wait();
        {
          const TeamPin pin({2 * thread + 1, 2 * thread});
          all.arrive_and_wait();
          check_team({2 * thread + 1, 2 * thread});
        }
        CHECK_EQ(affinity().get(0), affinity().allowed());
        CHECK_EQ(max_threads(), threads_before);
      }
    });
  }
  for (auto& thread : threads) thread.join();
  CHECK_EQ(affinity().get(0), affinity().allowed());
}

TEST(a_refused_cpu_changes_nothing) {
  const SimulatedCpus machine(4);
  const int threads = max_threads();
  CHECK_THROWS(AffinityError, "99", TeamPin({99}));
  // One thread alone asks for all the CPUs at once, and is granted those that exist.
  if (has_openmp()) CHECK_THROWS(AffinityError, "99", TeamPin({0, 99, 1}));
  CHECK_EQ(max_threads(), threads);
  CHECK(TeamPin::innermost() == nullptr);
  for (const CpuList& mask : member_masks(3)) CHECK_EQ(mask, affinity().allowed());
}

TEST(a_refused_inner_scope_leaves_the_outer_whole) {
  const SimulatedCpus machine(4);
  const TeamPin outer({0, 1, 2});
  for (const CpuList& refused : {CpuList{99}, CpuList{98, 99}, CpuList{96, 97, 98, 99}}) {
    CHECK_THROWS(AffinityError, "9", TeamPin{refused});
    CHECK(TeamPin::innermost() == &outer);
    check_team({0, 1, 2});
  }
  if (!has_openmp()) return;
  CHECK_THROWS(AffinityError, "99", TeamPin({3, 99}));
  check_team({0, 1, 2});
}

TEST(repin_puts_members_back) {
  const SimulatedCpus machine(4);
  TeamPin pin({3, 2});
  run_on_team(2, [](int) { affinity().set(0, {0}); });
  pin.repin();
  check_team({3, 2});
}

TEST(a_scope_cannot_begin_inside_a_region) {
  if (!has_openmp()) return;
  const SimulatedCpus machine(4);
  std::atomic<int> refused{0};
  run_on_team(2, [&](int) {
    try {
      const TeamPin pin({0});
    } catch (const std::runtime_error&) {
      ++refused;
    }
  });
  CHECK_EQ(refused.load(), 2);
}

TEST(a_stream_has_a_team_of_its_slice) {
  const SimulatedCpus machine(8);
  StreamOptions options;
  options.cpus = {{1, 0, 2}, {5, 4}};
  const Streams streams(options);
  const auto check = [](const StreamContext& stream) { check_team(stream.cpus); };
  streams->on_every_stream(check);
  for (const auto& info : streams->infos()) {
    CHECK_EQ(info.team_size, static_cast<int>(info.cpus.size()));
    CHECK_EQ(info.thread_ids.size(), has_openmp() ? info.cpus.size() : 1u);
  }
  streams->on_every_stream(
      [](const StreamContext& stream) { run_on_team(stream.team_size + 1, [](int) {}); });
  streams->repin();
  streams->on_every_stream(check);
}

}  // namespace
}  // namespace corestream
