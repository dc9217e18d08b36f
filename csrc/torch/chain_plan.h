// Which convolutions of a chain are computed row by row.
#pragma once

#include <cstddef>
#include <cstdint>

#include "chain_rows.h"

namespace corestream {

// Members of the calling thread's team that are worth waking for these stages.
int chain_members(const ChainStages& stages);

// How many stages from `begin` on are best computed so by that team; 1: none.
size_t fused_stages(const ChainStages& stages, size_t begin, int64_t element_size);

}  // namespace corestream
