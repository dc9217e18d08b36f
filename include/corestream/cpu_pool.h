// An ordered set of CPUs reserved for one purpose.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <string>
#include <vector>

namespace corestream {

// The CPUs that the process was started with, ascending. Pinning a thread does not change them.
std::vector<std::int32_t> allowed_cpus();

class CPUPool {
 public:
  // Linux logical CPU numbers, in the order that teams are pinned in.
  // Throws std::invalid_argument: empty, negative or repeated. A CPU that the process may not use
  // is found out by whoever pins a thread to it (AffinityError).
  explicit CPUPool(std::vector<std::int32_t> core_ids);
  CPUPool(std::initializer_list<std::int32_t> core_ids)
      : CPUPool(std::vector<std::int32_t>(core_ids)) {}

  const std::vector<std::int32_t>& core_ids() const { return core_ids_; }
  std::size_t size() const { return core_ids_.size(); }

  // Consecutive parts; the first size() % parts are one longer.
  // Throws std::invalid_argument unless 1 <= parts <= size().
  std::vector<CPUPool> split(std::size_t parts) const;

  friend bool operator==(const CPUPool&, const CPUPool&) = default;

 private:
  std::vector<std::int32_t> core_ids_;
};

// "0-3,8"
std::string to_string(const CPUPool& pool);

}  // namespace corestream
