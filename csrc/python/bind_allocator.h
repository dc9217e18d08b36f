#pragma once

#include <torch/csrc/utils/pybind.h>

namespace corestream::python {

void bind_allocator(pybind11::module_& module);

}  // namespace corestream::python
