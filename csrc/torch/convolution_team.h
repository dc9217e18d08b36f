// Runs a convolution's kernel on the calling thread's team.
#pragma once

#include <c10/core/ScalarType.h>

#include "convolution_kernel.h"

namespace corestream {

// False if this CPU has none for elements of that type.
ConvolutionKernel convolution_kernel(c10::ScalarType dtype, bool is_depthwise);

// Multiplications of a row of the output, in dense ones.
int64_t row_products(const Convolution& convolution, bool is_depthwise);

// There must be a kernel.
void run_convolution(const Convolution& convolution, c10::ScalarType dtype, bool is_depthwise);

}  // namespace corestream
