// Which convolutions of a chain a team computes a row at a time, one after another, so that what
// they pass on stays in a core's cache (Alwani et al., Fused-Layer CNN Accelerators, 2016).
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "convolution_kernel.h"

namespace corestream {

struct ChainStage {
  Convolution convolution;
  ConvolutionKernel kernel;  // null if it is not to be computed by rows
  bool is_depthwise;

  // Whether it can read from a ring of rows.
  bool may_follow() const;
};

using ChainStages = std::vector<ChainStage>;

// Bytes of a row of the output.
int64_t row_bytes(const ChainStage& stage, int64_t element_size);

// Members of a team that are worth waking for these stages.
int chain_members(const ChainStages& stages);

// How many stages from `begin` on are best computed row by row; 1: none.
size_t fused_stages(const ChainStages& stages, size_t begin, int64_t element_size);

}  // namespace corestream
