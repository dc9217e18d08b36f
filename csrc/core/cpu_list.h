// Lists of cpu ids and their text form ("0-3,8").
#pragma once

#include <string>
#include <vector>

namespace corestream {

// Linux logical CPU numbers. Masks are ascending; the CPUs of a pool keep the pool's order.
using CpuList = std::vector<int>;

std::string to_string(const CpuList& cpus);

}  // namespace corestream
