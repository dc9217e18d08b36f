// What a Task calls: turns Python arguments into a job of the right kind.
#pragma once

#include <torch/csrc/jit/api/function_impl.h>

#include "aoti_runner.h"
#include "call.h"
#include "torchscript_runner.h"

namespace corestream::python {

class Callee {
 public:
  virtual ~Callee() = default;

  // With the GIL. Throws TypeError or RuntimeError, as the model would, for wrong arguments.
  virtual std::unique_ptr<Call> prepare(const py::tuple& args, const py::dict& kwargs,
                                        const CallerState& state) = 0;
};

class TorchScriptCallee final : public Callee {
 public:
  // A torch.jit.ScriptModule or ScriptFunction.
  explicit TorchScriptCallee(const py::object& module);

  std::unique_ptr<Call> prepare(const py::tuple& args, const py::dict& kwargs,
                                const CallerState& state) override;

  // On the calling thread and its team, without the GIL, as a stream runs it. Only for graphs that
  // need no stream. NotImplemented for a shape that is not settled, unless it may settle.
  py::object run_here(const py::tuple& args, const py::dict& kwargs, bool may_settle);
  bool can_run_here() const { return !runner_->needs_stream(); }

  // As AOTInductorCallee's, for a graph that takes tensors and returns a tuple of them. Without it
  // arguments and results are the schema's.
  void set_structure(py::object flatten, py::object unflatten);

  void set_captures(const std::string& when);
  std::string captures() const;
  uint64_t num_captured_runs() const { return runner_->num_captured_runs(); }
  size_t captured_bytes() const { return runner_->captured_bytes(); }

 private:
  torch::jit::Stack inputs_of(const py::tuple& args, const py::dict& kwargs) const;

  std::shared_ptr<TorchScriptRunner> runner_;
  py::object flatten_ = py::none(), unflatten_ = py::none();
};

class AOTInductorCallee final : public Callee {
 public:
  AOTInductorCallee(std::string path, int num_runners, std::vector<int64_t> batch_sizes);

  // `loader`: the torch._C._aoti.AOTIModelPackageLoader of a loaded package.
  explicit AOTInductorCallee(const py::object& loader);

  // flatten(args, kwargs) -> list of tensors; unflatten(list of tensors) -> outputs.
  void set_structure(py::object flatten, py::object unflatten);

  std::unique_ptr<Call> prepare(const py::tuple& args, const py::dict& kwargs,
                                const CallerState& state) override;
  std::vector<std::string> call_spec() { return runner_->call_spec(); }

 private:
  std::shared_ptr<AOTInductorRunner> runner_;
  py::object flatten_, unflatten_;
};

class PythonCallee final : public Callee {
 public:
  explicit PythonCallee(py::object callable) : callable_(std::move(callable)) {}

  // For Python's garbage collector: a bound method may belong to who holds this.
  py::object& callable() { return callable_; }

  std::unique_ptr<Call> prepare(const py::tuple& args, const py::dict& kwargs,
                                const CallerState& state) override;

 private:
  py::object callable_;
};

}  // namespace corestream::python
