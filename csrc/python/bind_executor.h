#pragma once

#include <torch/csrc/utils/pybind.h>

namespace corestream::python {

void bind_executor(pybind11::module_& module);
void bind_handle(pybind11::module_& module);
void bind_callees(pybind11::module_& module);

}  // namespace corestream::python
