// Convolutions of 3 x 3 and 5 x 5 as products of transformed tiles (winograd_kernel.h). Which those
// are, the weight says: transformed, it has 36 matrices in place of 9 or 25.
#pragma once

#include <ATen/core/Tensor.h>

#include "convolution.h"
#include "convolution_kernel.h"

namespace corestream {

// Whether a convolution can be computed so, and whether this CPU has kernels for it.
bool has_winograd_form(const ConvolutionShape& shape);
bool has_winograd_kernel(at::ScalarType dtype, const ConvolutionShape& shape);

// The weight of conv2d, (output channels, input channels, height, width) in float32, as
// run_winograd takes it: (tile, tile, ...), for each position what pack_convolution makes of the
// matrix there.
at::Tensor pack_winograd(const at::Tensor& weight, int64_t tile);
inline bool is_winograd(const at::Tensor& packed) { return packed.dim() > 2; }
// The reverse but for rounding.
at::Tensor unpack_winograd(const at::Tensor& packed, at::IntArrayRef weight_size);

// On the calling thread's team; there must be a kernel. The convolution has zeros.
void run_winograd(const Convolution& convolution, int64_t tile);

}  // namespace corestream
