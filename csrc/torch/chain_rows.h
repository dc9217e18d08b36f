// Convolutions of which each reads what the one before it wrote, computed a row at a time, so that
// what they pass on stays in a core's cache (Alwani et al., Fused-Layer CNN Accelerators, 2016).
#pragma once

#include <cstdint>
#include <vector>

#include "convolution_kernel.h"

namespace corestream {

struct ChainStage {
  Convolution convolution;
  ConvolutionKernel kernel;  // null if it is not to be computed by rows
  bool is_depthwise;

  // Whether it can read what is kept of another's output: some rows.
  bool may_follow() const { return is_depthwise || convolution.is_product(); }
};

// The first reads images and the last writes them; between them are rings of rows.
using ChainStages = std::vector<ChainStage>;

// Bytes of a row of the output.
int64_t row_bytes(const ChainStage& stage, int64_t element_size);

// Memory for the rings between stages, padded to cache lines.
int64_t ring_bytes(const ChainStages& stages, int64_t element_size);

// Rows [begin, end) of the output, counted over images. All stages but the first may follow.
void run_rows(const ChainStages& stages, int64_t element_size, int64_t begin, int64_t end,
              char* rings);

}  // namespace corestream
