// Splitting and joining of what most calls pass: tensors in tuples, lists and dicts.
//
// corestream.runtime.split and .concat hold the rules, for every kind of container and for
// hints; walking a call's dozen objects in Python costs 40 us, here 5. Both functions return
// NotImplemented for anything that is not plain or not right: Python then does it, or says why not.
#pragma once

#include <torch/csrc/utils/pybind.h>

namespace py = pybind11;

namespace corestream::python {

// One (args, kwargs) per part, every tensor cut along dim 0.
py::object split_plain(const py::tuple& args, const py::dict& kwargs, int64_t num_parts);

// One value of the outputs, every tensor joined along dim 0.
py::object concat_plain(const py::list& outputs);

}  // namespace corestream::python
