// torch.ops.corestream.interleave_channels: the channel shuffle of grouped convolutions in a pass.
#pragma once

#include <ATen/core/Tensor.h>

namespace corestream {

// Channel i of part g becomes channel i * parts.size() + g, as in stack(parts, 2).flatten(1, 2).
// Channels that lie next to each other in all parts do so in the result.
at::Tensor interleave_channels(at::TensorList parts);

}  // namespace corestream
