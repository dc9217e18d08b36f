#include "callee.h"

#include <ATen/Parallel.h>
#include <cxxabi.h>
#include <torch/csrc/inductor/aoti_package/model_package_loader.h>
#include <torch/csrc/jit/python/module_python.h>
#include <torch/csrc/jit/python/pybind_utils.h>
#include <torch/csrc/jit/python/python_ivalue.h>

#include <algorithm>
#include <array>

#include "fork.h"
#include "unwrapped.h"

namespace corestream::python {
namespace {

using torch::inductor::AOTIModelPackageLoader;

std::shared_ptr<TorchScriptRunner> runner_of(const py::object& module) {
  if (const auto script_module = torch::jit::as_module(module)) {
    auto method = script_module->get_method("forward");
    return std::make_shared<TorchScriptRunner>(method.function(), script_module->_ivalue());
  }
  if (py::isinstance<torch::jit::StrongFunctionPtr>(module)) {
    const auto function = module.cast<torch::jit::StrongFunctionPtr>();
    return std::make_shared<TorchScriptRunner>(*function.function_, c10::IValue(), function.cu_);
  }
  throw py::type_error("module must be a torch.jit.ScriptModule or ScriptFunction; got " +
                       py::repr(module).cast<std::string>() + "; script or trace it first");
}

// The C++ loader inside the Python object. torch binds a class derived from the public one
// without a header for it; the type information tells whether the base is at offset 0.
AOTInductorRunner::Loader loader_of(const py::object& object) {
  auto* instance = reinterpret_cast<py::detail::instance*>(object.ptr());
  const auto* bound = py::detail::get_type_info(Py_TYPE(object.ptr()));
  if (bound != nullptr && bound->cpptype != nullptr) {
    const auto* single_base = dynamic_cast<const abi::__si_class_type_info*>(bound->cpptype);
    const bool is_loader = *bound->cpptype == typeid(AOTIModelPackageLoader);
    const bool has_loader =
        single_base != nullptr && *single_base->__base_type == typeid(AOTIModelPackageLoader);
    if (is_loader || has_loader) {
      auto* loader =
          static_cast<AOTIModelPackageLoader*>(instance->get_value_and_holder().value_ptr());
      // The Python object owns the loader, and must be let go of under the GIL.
      auto owner = std::shared_ptr<PyObject>(py::object(object).release().ptr(), [](PyObject* raw) {
        if (Py_IsInitialized() == 0) return;
        const py::gil_scoped_acquire gil;
        Py_DECREF(raw);
      });
      return {std::move(owner), loader};
    }
  }
  throw py::type_error(
      "package must be the path of a .pt2 file or what aoti_load_package() "
      "returned; got " +
      py::repr(object).cast<std::string>() + "; give the path");
}

// In the order of Captures.
constexpr std::array kCaptures{"measured", "always", "never"};

}  // namespace

TorchScriptCallee::TorchScriptCallee(const py::object& module) : runner_(runner_of(module)) {}

void TorchScriptCallee::set_captures(const std::string& when) {
  const auto found = std::find(kCaptures.begin(), kCaptures.end(), when);
  if (found == kCaptures.end()) {
    throw py::value_error("captures must be 'measured', 'always' or 'never'; got '" + when +
                          "'; leave it as it is");
  }
  runner_->set_captures(static_cast<Captures>(found - kCaptures.begin()));
}

std::string TorchScriptCallee::captures() const {
  return kCaptures[static_cast<size_t>(runner_->captures())];
}

void TorchScriptCallee::set_structure(py::object flatten, py::object unflatten) {
  flatten_ = std::move(flatten);
  unflatten_ = std::move(unflatten);
}

torch::jit::Stack TorchScriptCallee::inputs_of(const py::tuple& args,
                                               const py::dict& kwargs) const {
  std::optional<c10::IValue> self;
  if (!runner_->owner().isNone()) self = runner_->owner();
  const bool is_flat = !flatten_.is_none();
  const py::tuple given = is_flat ? py::tuple(flatten_(args, kwargs)) : args;
  auto inputs = torch::jit::createStackForSchema(runner_->function().getSchema(),
                                                 torch::jit::tuple_slice(given),
                                                 is_flat ? py::dict() : kwargs, std::move(self));
  unwrap_tensors(inputs);
  return inputs;
}

std::unique_ptr<Call> TorchScriptCallee::prepare(const py::tuple& args, const py::dict& kwargs,
                                                 const CallerState& state) {
  auto job = std::make_shared<GraphJob>(runner_, inputs_of(args, kwargs), state);
  return std::make_unique<GraphCall>(std::move(job), unflatten_);
}

py::object TorchScriptCallee::run_here(const py::tuple& args, const py::dict& kwargs,
                                       bool may_settle) {
  TORCH_INTERNAL_ASSERT(can_run_here());
  auto inputs = inputs_of(args, kwargs);
  StreamContext here;
  here.team_size = at::get_num_threads();
  std::optional<c10::IValue> value;
  {
    const py::gil_scoped_release no_gil;
    const NativeSection section;
    if (may_settle) {
      value = runner_->run(std::move(inputs), here);
    } else {
      value = runner_->run_if_settled(inputs, here);
    }
  }
  if (!value.has_value()) return py::reinterpret_borrow<py::object>(Py_NotImplemented);
  py::object result = torch::jit::toPyObject(std::move(*value));
  return unflatten_.is_none() ? result : unflatten_(std::move(result));
}

AOTInductorCallee::AOTInductorCallee(std::string path, int num_runners,
                                     std::vector<int64_t> batch_sizes)
    : runner_(std::make_shared<AOTInductorRunner>(std::move(path), num_runners,
                                                  std::move(batch_sizes))) {}

AOTInductorCallee::AOTInductorCallee(const py::object& loader)
    : runner_(std::make_shared<AOTInductorRunner>(loader_of(loader))) {}

void AOTInductorCallee::set_structure(py::object flatten, py::object unflatten) {
  flatten_ = std::move(flatten);
  unflatten_ = std::move(unflatten);
}

std::unique_ptr<Call> AOTInductorCallee::prepare(const py::tuple& args, const py::dict& kwargs,
                                                 const CallerState& state) {
  torch::jit::Stack inputs;
  for (const py::handle tensor : flatten_(args, kwargs)) {
    inputs.emplace_back(tensor.cast<at::Tensor>());
  }
  unwrap_tensors(inputs);
  auto job = std::make_shared<GraphJob>(runner_, std::move(inputs), state);
  return std::make_unique<GraphCall>(std::move(job), unflatten_);
}

std::unique_ptr<Call> PythonCallee::prepare(const py::tuple& args, const py::dict& kwargs,
                                            const CallerState& state) {
  return std::make_unique<PythonCall>(std::make_shared<PythonJob>(callable_, args, kwargs, state));
}

}  // namespace corestream::python
