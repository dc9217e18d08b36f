#include "call.h"

#include <torch/csrc/jit/python/pybind_utils.h>

#include "corestream/errors.h"

namespace corestream::python {

GraphCall::GraphCall(std::shared_ptr<GraphJob> job, py::object unflatten)
    : graph_job_(std::move(job)), job_(graph_job_), unflatten_(std::move(unflatten)) {}

py::object GraphCall::take() {
  py::object value = torch::jit::toPyObject(graph_job_->take_result());
  return unflatten_.is_none() ? value : unflatten_(std::move(value));
}

PythonJob::PythonJob(py::object callable, py::tuple args, py::dict kwargs, CallerState state)
    : callable_(std::move(callable)),
      args_(std::move(args)),
      kwargs_(std::move(kwargs)),
      context_(py::reinterpret_steal<py::object>(PyContext_CopyCurrent())),
      state_(std::move(state)) {
  if (!context_) throw py::error_already_set();
}

PythonJob::~PythonJob() {
  // After the interpreter's end there is no GIL to take and nobody to give the objects back to.
  if (Py_IsInitialized() == 0) {
    for (py::object* member : {&callable_, &args_, &kwargs_, &context_, &result_, &error_}) {
      member->release();
    }
    return;
  }
  const py::gil_scoped_acquire gil;
  release_inputs();
  result_ = py::object();
  error_ = py::object();
}

py::object PythonJob::call() {
  if (PyContext_Enter(context_.ptr()) != 0) throw py::error_already_set();
  py::object value =
      py::reinterpret_steal<py::object>(PyObject_Call(callable_.ptr(), args_.ptr(), kwargs_.ptr()));
  // PyContext_Exit must not see the call's exception as its own.
  PyObject *type = nullptr, *exception = nullptr, *traceback = nullptr;
  PyErr_Fetch(&type, &exception, &traceback);
  PyContext_Exit(context_.ptr());
  PyErr_Restore(type, exception, traceback);
  if (!value) throw py::error_already_set();
  return value;
}

void PythonJob::run(const StreamContext& stream) noexcept {
  stream_index_ = stream.index;
  {
    const py::gil_scoped_acquire gil;
    try {
      const CallerStateScope scope(*state_);
      result_ = call();
    } catch (py::error_already_set& error) {
      error_ = error.value();
      if (error.trace()) PyException_SetTraceback(error_.ptr(), error.trace().ptr());
    }
    release_inputs();
  }
  finish();
}

void PythonJob::drop() noexcept {
  const py::gil_scoped_acquire gil;
  release_inputs();
}

void PythonJob::release_inputs() {
  callable_ = py::object();
  args_ = py::object();
  kwargs_ = py::object();
  context_ = py::object();
  state_.reset();
}

py::object PythonJob::take() {
  if (state() == State::cancelled) throw Cancelled("the task was cancelled before it started");
  if (error_) {
    const py::object error = std::move(error_);
    PyErr_SetObject(reinterpret_cast<PyObject*>(Py_TYPE(error.ptr())), error.ptr());
    throw py::error_already_set();
  }
  return std::move(result_);
}

}  // namespace corestream::python
