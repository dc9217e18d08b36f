// Cutting tensors into the streams' parts and joining what comes back, on the caller's thread
// and without opening a parallel region there: a team of the caller's would slow every stream.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

namespace corestream {

struct TensorSplit {
  at::Tensor tensor;
  int64_t dim = 0;
};

// parts[p][t]: views of tensor t, lengths[p] long along its dim, one after the other.
std::vector<std::vector<at::Tensor>> split_tensors(const std::vector<TensorSplit>& tensors,
                                                   const std::vector<int64_t>& lengths);

// Joins parts[...] along dim; a single part is returned as it is.
at::Tensor concat_tensors(const std::vector<at::Tensor>& parts, int64_t dim);

}  // namespace corestream
