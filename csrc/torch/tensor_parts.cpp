#include "tensor_parts.h"

#include <ATen/Functions.h>

#include "team_size.h"

namespace corestream {

std::vector<std::vector<at::Tensor>> split_tensors(const std::vector<TensorSplit>& tensors,
                                                   const std::vector<int64_t>& lengths) {
  std::vector<std::vector<at::Tensor>> parts;
  parts.reserve(lengths.size());
  int64_t start = 0;
  for (const int64_t length : lengths) {
    std::vector<at::Tensor>& part = parts.emplace_back();
    part.reserve(tensors.size());
    for (const auto& [tensor, dim] : tensors) part.push_back(tensor.narrow(dim, start, length));
    start += length;
  }
  return parts;
}

at::Tensor concat_tensors(const std::vector<at::Tensor>& parts, int64_t dim) {
  if (parts.size() == 1) return parts.front();
  const ScopedTeamSize one_thread(1);
  return at::cat(parts, dim);
}

}  // namespace corestream
