#include "handle.h"

#include <torch/csrc/Exceptions.h>
#include <torch/csrc/jit/runtime/jit_exception.h>

#include <cmath>
#include <stdexcept>

#include "corestream/errors.h"
#include "cpu_list.h"

namespace corestream::python {
namespace {

// While it waits, a caller looks for Ctrl-C this often.
constexpr auto kSignalCheck = std::chrono::milliseconds(100);

Deadline deadline_after(std::optional<double> timeout_s) {
  constexpr double kForever_s = 1e8;  // three years; longer ones overflow the clock
  if (!timeout_s || *timeout_s > kForever_s) return std::nullopt;
  if (std::isnan(*timeout_s)) {
    throw std::invalid_argument("timeout must be a number of seconds; got nan; give None to wait");
  }
  const auto timeout = std::chrono::duration<double>(std::max(0.0, *timeout_s));
  return Clock::now() + std::chrono::duration_cast<Clock::duration>(timeout);
}

// The exception that `error` is in Python.
py::object python_exception(const std::exception_ptr& error) {
  try {
    std::rethrow_exception(error);
  } catch (py::error_already_set& raised) {
    py::object exception = raised.value();
    if (raised.trace()) PyException_SetTraceback(exception.ptr(), raised.trace().ptr());
    return exception;
  } catch (const Cancelled& raised) {
    return py::module_::import("concurrent.futures").attr("CancelledError")(raised.what());
  } catch (const torch::jit::JITException& raised) {
    return py::module_::import("torch.jit").attr("Error")(raised.what());
  } catch (...) {
    torch::translate_exception_to_python(std::current_exception());
    py::error_already_set raised;
    return raised.value();
  }
}

[[noreturn]] void raise(const py::object& exception) {
  PyErr_SetObject(reinterpret_cast<PyObject*>(Py_TYPE(exception.ptr())), exception.ptr());
  throw py::error_already_set();
}

}  // namespace

std::shared_ptr<Handle> Handle::submit(std::shared_ptr<StreamSet> streams,
                                       std::unique_ptr<Call> call, Placement placement) {
  auto handle = std::make_shared<Handle>();
  handle->completion_ = call->job();
  handle->placement_ = placement;
  streams->post(call->job(), placement);
  handle->streams_ = std::move(streams);
  handle->calls_.push_back(std::move(call));
  return handle;
}

std::shared_ptr<Handle> Handle::submit_parts(std::shared_ptr<StreamSet> streams,
                                             std::vector<std::unique_ptr<Call>> calls) {
  auto handle = std::make_shared<Handle>();
  std::vector<std::shared_ptr<Job>> jobs;
  for (const auto& call : calls) jobs.push_back(call->job());
  handle->group_ = std::make_shared<TaskGroup>(std::move(jobs));
  handle->completion_ = handle->group_;
  {
    // If the queue is full the parts' Python objects are dropped here, which takes the GIL.
    const py::gil_scoped_release no_gil;
    handle->group_->post_to(*streams);
  }
  handle->streams_ = std::move(streams);
  handle->calls_ = std::move(calls);
  return handle;
}

bool Handle::wait_on_own_stream(const Deadline& deadline) {
  // Without the GIL: the calls are Python's to drop, the group's parts are not.
  if (group_) {
    for (const auto& part : group_->parts()) streams_->run_inline(*part);
  } else if (placement_.lane != Lane::exclusive || placement_.stream == current_stream()->index) {
    streams_->run_inline(static_cast<Job&>(*completion_));
  }
  return streams_->wait_on_stream(*completion_, deadline);
}

bool Handle::wait(std::optional<double> timeout_s) {
  if (completion_->is_over()) return true;
  const Deadline deadline = deadline_after(timeout_s);
  const StreamContext* stream = current_stream();
  if (stream != nullptr && stream->streams == streams_.get()) {
    const py::gil_scoped_release no_gil;
    return wait_on_own_stream(deadline);
  }
  auto spin = streams_->caller_spin();
  while (true) {
    {
      const py::gil_scoped_release no_gil;
      auto slice_end = Clock::now() + kSignalCheck;
      if (deadline && *deadline < slice_end) slice_end = *deadline;
      if (completion_->wait(slice_end, spin)) return true;
    }
    spin = std::chrono::nanoseconds(0);
    if (PyErr_CheckSignals() != 0) throw py::error_already_set();
    if (deadline && Clock::now() >= *deadline) return completion_->is_over();
  }
}

std::string Handle::where(const Call& call) const {
  const int index = call.stream_index();
  if (index < 0) return "before it reached a stream";
  const auto infos = streams_->infos();
  return "on stream " + std::to_string(index) + " of " + std::to_string(infos.size()) + " (CPUs " +
         to_string(infos[static_cast<size_t>(index)].cpus) + ")";
}

py::object Handle::take(Call& call) {
  try {
    return call.take();
  } catch (...) {
    py::object exception = python_exception(std::current_exception());
    exception.attr("add_note")("corestream: raised " + where(call));
    raise(exception);
  }
}

py::object Handle::take_all() {
  if (!group_) return take(*calls_.front());
  py::list values;
  std::exception_ptr first_error;
  for (const auto& call : calls_) {
    try {
      values.append(take(*call));
    } catch (...) {
      if (!first_error) first_error = std::current_exception();
    }
  }
  if (first_error) std::rethrow_exception(first_error);
  return values;
}

py::object Handle::result() {
  // Making the Python value may run Python code, in the middle of which another thread may ask.
  std::unique_lock lock(taking_, std::try_to_lock);
  if (!lock.owns_lock()) {
    const py::gil_scoped_release no_gil;
    lock.lock();
  }
  if (!is_taken_) {
    if (completion_->state() == Completion::State::cancelled) {
      throw Cancelled("the task was cancelled before it started");
    }
    try {
      value_ = take_all();
    } catch (...) {
      error_ = python_exception(std::current_exception());
    }
    is_taken_ = true;
    calls_.clear();
  }
  if (error_) raise(error_);
  return value_;
}

int Handle::traverse(visitproc visit, void* argument) const {
  if (value_) {
    if (const int stop = visit(value_.ptr(), argument)) return stop;
  }
  return error_ ? visit(error_.ptr(), argument) : 0;
}

void Handle::clear() {
  value_ = py::object();
  error_ = py::object();
}

bool Handle::cancel() {
  const py::gil_scoped_release no_gil;
  if (group_) return group_->cancel(*streams_);
  return streams_->cancel(static_cast<Job&>(*completion_));
}

void Handle::add_done_callback(py::object callback) {
  // Let go of under the GIL, also if the work never ends and the list dies with its completion.
  auto shared =
      std::shared_ptr<py::object>(new py::object(std::move(callback)), [](py::object* raw) {
        if (Py_IsInitialized() == 0) return;
        const py::gil_scoped_acquire gil;
        delete raw;
      });
  const py::gil_scoped_release no_gil;
  completion_->add_callback([shared] {
    const py::gil_scoped_acquire gil;
    try {
      (*shared)();
    } catch (py::error_already_set& error) {
      error.discard_as_unraisable("a corestream done callback");
    }
  });
}

}  // namespace corestream::python
