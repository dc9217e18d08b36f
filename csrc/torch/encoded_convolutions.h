// How operators of several convolutions are told of them: in lists that tracing and AOTInductor's
// JSON know, of which the first has no tensors that may be absent, and the second no infinity.
#pragma once

#include <ATen/core/Tensor.h>

#include <optional>
#include <vector>

#include "convolution.h"

namespace corestream {

// Of each convolution: the packed weight; the bias, or any tensor; 12 numbers, which are flags of
// what it has, the weight's sizes (4), stride, padding and dilation (2 each) and the groups; the
// two limits. Nothing where the flags say that there is no weight. The shapes are those numbers,
// which the caller keeps.
std::vector<std::optional<PackedConvolution>> decode_convolutions(at::TensorList packed,
                                                                  at::TensorList biases,
                                                                  at::IntArrayRef numbers,
                                                                  at::ArrayRef<double> limits);

}  // namespace corestream
