// corestream._torch: what runs torch models.
#include <pybind11/stl.h>
#include <torch/csrc/utils/pybind.h>

#include "attention.h"
#include "bind_allocator.h"
#include "bind_executor.h"
#include "convolution.h"
#include "cpu_kernels.h"
#include "errors.h"
#include "plain_structure.h"
#include "tensor_parts.h"
#include "winograd.h"

namespace py = pybind11;

namespace corestream::python {
namespace {

std::vector<std::vector<at::Tensor>> split(const std::vector<at::Tensor>& tensors,
                                           const std::vector<int64_t>& dims,
                                           const std::vector<int64_t>& lengths) {
  std::vector<TensorSplit> splits;
  splits.reserve(tensors.size());
  for (size_t leaf = 0; leaf < tensors.size(); ++leaf)
    splits.push_back({tensors[leaf], dims[leaf]});
  return split_tensors(splits, lengths);
}

// What corestream::has_convolution_kernel and its like know of a convolution.
using HasKernel = bool (*)(at::ScalarType, const corestream::ConvolutionShape&);

void define_has_kernel(py::module_& module, const char* name, HasKernel has_kernel) {
  using Sizes = std::vector<int64_t>;
  const auto ask = [has_kernel](at::ScalarType dtype, const Sizes& weight_size, const Sizes& stride,
                                const Sizes& padding, const Sizes& dilation, int64_t groups) {
    return has_kernel(dtype, {weight_size, stride, padding, dilation, groups});
  };
  module.def(name, ask, py::arg("dtype"), py::arg("weight_size"), py::arg("stride"),
             py::arg("padding"), py::arg("dilation"), py::arg("groups"));
}

}  // namespace
}  // namespace corestream::python

PYBIND11_MODULE(_torch, module) {
  using namespace corestream::python;
  register_error_translators();
  module.attr("torch_version") = CORESTREAM_TORCH_VERSION;
  module.attr("version") = CORESTREAM_VERSION;
  bind_callees(module);
  bind_handle(module);
  bind_executor(module);
  bind_allocator(module);
  module.def("split_tensors", &split, py::arg("tensors"), py::arg("dims"), py::arg("lengths"));
  module.def("concat_tensors", &corestream::concat_tensors, py::arg("parts"), py::arg("dim"),
             py::call_guard<py::gil_scoped_release>());
  module.def("has_attention_kernel", &corestream::has_attention_kernel, py::arg("dtype"),
             py::arg("head_size"), py::arg("num_keys"));
  module.def("has_kernels", &corestream::has_kernels, py::arg("dtype"));
  define_has_kernel(module, "has_convolution_kernel", &corestream::has_convolution_kernel);
  define_has_kernel(module, "has_winograd_kernel", &corestream::has_winograd_kernel);
  module.def("split_plain", &split_plain, py::arg("args"), py::arg("kwargs"), py::arg("num_parts"));
  module.def("concat_plain", &concat_plain, py::arg("outputs"));
}
