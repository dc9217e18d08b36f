// The allocator that keeps tensors' memory.
#include "bind_allocator.h"

#include "cpu_allocator.h"

namespace corestream::python {

void bind_allocator(pybind11::module_& module) {
  module.def("keep_tensor_memory", &keep_tensor_memory, pybind11::arg("limit_bytes"),
             pybind11::call_guard<pybind11::gil_scoped_release>());
  module.def("release_tensor_memory", &release_tensor_memory,
             pybind11::call_guard<pybind11::gil_scoped_release>());
  module.def("tensor_memory", [] {
    const TensorMemory memory = tensor_memory();
    return pybind11::make_tuple(memory.limit_bytes, memory.kept_bytes, memory.reused, memory.made);
  });
}

}  // namespace corestream::python
