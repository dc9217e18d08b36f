// Inputs that a stream can let go of without the GIL.
#pragma once

#include <ATen/core/stack.h>

namespace corestream {

// Puts, for each tensor among the inputs, another over the same storage in its place.
//
// A tensor that Python has seen drops its Python wrapper, under the GIL, when the last but one
// reference goes (c10::TensorImpl::decref_pyobject, torch 2.13): a stream that drops its input
// would wait for whatever Python is doing.
void unwrap_tensors(torch::jit::Stack& inputs);

}  // namespace corestream
