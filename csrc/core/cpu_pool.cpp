#include "corestream/cpu_pool.h"

#include <algorithm>
#include <stdexcept>

#include "affinity.h"
#include "corestream/with_cpu_pool.h"
#include "team_pin.h"

namespace corestream {
namespace {

void check_core_ids(const std::vector<std::int32_t>& core_ids) {
  const auto refuse = [&](const std::string& constraint, const std::string& next_step) {
    throw std::invalid_argument("core_ids must be " + constraint + "; got [" + to_string(core_ids) +
                                "]; " + next_step);
  };
  if (core_ids.empty()) refuse("at least one CPU", "name the CPUs, for example {0, 1}");
  std::vector<std::int32_t> sorted = core_ids;
  std::sort(sorted.begin(), sorted.end());
  if (sorted.front() < 0) refuse("CPU numbers from 0", "see /proc/self/status, Cpus_allowed_list");
  if (std::adjacent_find(sorted.begin(), sorted.end()) != sorted.end()) {
    refuse("distinct", "remove the repeated CPU");
  }
  // Here and not at the pin: of a mask with several CPUs the kernel drops those it refuses
  // without a word (sched_setaffinity(2)).
  const CpuList& allowed = affinity().allowed();
  if (allowed.empty() ||
      std::includes(allowed.begin(), allowed.end(), sorted.begin(), sorted.end()))
    return;
  refuse("CPUs that the process may use (" + to_string(allowed) + ")",
         "take them from allowed_cpus()");
}

}  // namespace

CPUPool::CPUPool(std::vector<std::int32_t> core_ids) : core_ids_(std::move(core_ids)) {
  check_core_ids(core_ids_);
}

std::vector<CPUPool> CPUPool::split(std::size_t parts) const {
  if (parts < 1 || parts > size()) {
    throw std::invalid_argument("parts must be between 1 and " + std::to_string(size()) + "; got " +
                                std::to_string(parts) + "; a stream needs a CPU of its own");
  }
  std::vector<CPUPool> pools;
  auto next = core_ids_.begin();
  for (std::size_t part = 0; part < parts; ++part) {
    const auto length = size() / parts + (part < size() % parts ? 1 : 0);
    const auto end = next + static_cast<std::ptrdiff_t>(length);
    pools.emplace_back(std::vector<std::int32_t>(next, end));
    next = end;
  }
  return pools;
}

std::vector<std::int32_t> allowed_cpus() { return affinity().allowed(); }

std::string to_string(const CPUPool& pool) { return to_string(pool.core_ids()); }

WithCPUPool::WithCPUPool(const CPUPool& pool) : pin_(std::make_unique<TeamPin>(pool.core_ids())) {}

WithCPUPool::~WithCPUPool() = default;

}  // namespace corestream
