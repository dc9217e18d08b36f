// corestream._core: what needs no torch.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <optional>

#include "affinity.h"
#include "errors.h"
#include "fork.h"
#include "openmp.h"
#include "stream_set.h"
#include "team_pin.h"

namespace py = pybind11;

namespace corestream::python {
namespace {

void bind_affinity(py::module_& module) {
  module.def("get_affinity", [](pid_t tid) { return affinity().get(tid); }, py::arg("tid"));
  module.def(
      "simulated_affinity",
      [](pid_t tid) {
        return affinity().is_simulated() ? std::optional(affinity().get(tid)) : std::nullopt;
      },
      py::arg("tid"));
  module.def("startup_affinity", &startup_affinity);
  module.def(
      "simulate_cpus",
      [](std::optional<int> num_cpus) {
        replace_affinity_layer(num_cpus ? make_simulated_affinity(*num_cpus) : nullptr);
      },
      py::arg("num_cpus"));
  module.def("fail_thread_creation_after", &fail_thread_creation_after, py::arg("count"));
  module.def("is_in_native_section", &is_in_native_section);
}

void bind_openmp(py::module_& module) {
  module.def("openmp_runtime", [] {
    const auto& runtime = openmp();
    return py::make_tuple(to_string(runtime.kind), runtime.path);
  });
  module.def("release_idle_team", &release_idle_team, py::call_guard<py::gil_scoped_release>());
}

// Python ends a pin by saying so: when an object dies is not Python's to promise.
class PinScope {
 public:
  explicit PinScope(CpuList cpus) : pin_(std::in_place, std::move(cpus)) {}
  void release() { pin_.reset(); }

 private:
  std::optional<TeamPin> pin_;
};

void bind_pin(py::module_& module) {
  py::class_<PinScope>(module, "TeamPin")
      .def(py::init<CpuList>(), py::arg("cpus"))
      .def("release", &PinScope::release);
}

}  // namespace
}  // namespace corestream::python

PYBIND11_MODULE(_core, module) {
  using namespace corestream::python;
  register_error_translators();
  bind_affinity(module);
  bind_openmp(module);
  bind_pin(module);
}
