// Runs convolutions row by row on the calling thread's team.
#pragma once

#include <cstdint>

#include "chain_plan.h"

namespace corestream {

// The first reads an image and the last writes one; between them are rings of rows, of which each
// member has `ring_bytes` at `rings`.
struct Chain {
  ChainStages stages;
  char* rings;
  int64_t ring_bytes;
  int64_t element_size;
  int members;
};

// Memory for the rings of a member, padded to cache lines.
int64_t ring_bytes(const ChainStages& stages, int64_t element_size);

void run_chain(const Chain& chain);

}  // namespace corestream
