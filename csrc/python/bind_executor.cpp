// The executor and the handles of what it runs.
#include "bind_executor.h"

#include <pybind11/chrono.h>
#include <pybind11/stl.h>

#include "callee.h"
#include "executor.h"
#include "handle.h"

namespace corestream::python {
namespace {

// The destructor waits for queued work, which may need the GIL.
struct WithoutGIL {
  void operator()(Executor* executor) const {
    if (PyGILState_Check() != 0) {
      const py::gil_scoped_release no_gil;
      delete executor;
    } else {
      delete executor;
    }
  }
};

std::shared_ptr<Executor> make_executor(std::vector<CpuList> cpus, size_t queue_capacity,
                                        std::string name, double idle_spin_us) {
  StreamOptions options;
  options.cpus = std::move(cpus);
  options.queue_capacity = queue_capacity;
  options.name = std::move(name);
  options.idle_spin = std::chrono::nanoseconds(static_cast<int64_t>(idle_spin_us * 1000));
  const py::gil_scoped_release no_gil;
  return {new Executor(std::move(options)), WithoutGIL{}};
}

// A fork may have left no streams here: making them again needs the GIL to be free.
std::shared_ptr<StreamSet> streams_of(Executor& executor) {
  if (executor.has_streams()) return executor.streams();
  const py::gil_scoped_release no_gil;
  return executor.streams();
}

std::shared_ptr<Handle> submit(Executor& executor, Callee& callee, const py::tuple& args,
                               const py::dict& kwargs, std::optional<int> stream) {
  auto call = callee.prepare(args, kwargs, capture_caller_state());
  Placement placement;
  if (stream) placement = {Lane::exclusive, *stream};
  return Handle::submit(streams_of(executor), std::move(call), placement);
}

std::shared_ptr<Handle> submit_parts(Executor& executor, Callee& callee, const py::list& parts) {
  const CallerState state = capture_caller_state();
  std::vector<std::unique_ptr<Call>> calls;
  calls.reserve(parts.size());
  for (const py::handle part : parts) {
    const auto pair = py::reinterpret_borrow<py::tuple>(part);
    calls.push_back(callee.prepare(pair[0].cast<py::tuple>(), pair[1].cast<py::dict>(), state));
  }
  return Handle::submit_parts(streams_of(executor), std::move(calls));
}

py::list stream_infos(Executor& executor) {
  py::list infos;
  for (const auto& info : streams_of(executor)->infos()) {
    infos.append(py::make_tuple(info.cpus, info.team_size, info.thread_ids));
  }
  return infos;
}

// The C++ object of a bound Python one; null while it is being made. Only Python owns these,
// so what they hold may be followed and let go of.
template <typename Bound>
Bound* bound(PyObject* self) {
  auto* instance = reinterpret_cast<py::detail::instance*>(self);
  auto value = instance->get_value_and_holder();
  return value.holder_constructed() ? value.value_ptr<Bound>() : nullptr;
}

void collect_handles(PyHeapTypeObject* heap_type) {
  PyTypeObject* type = &heap_type->ht_type;
  type->tp_flags |= Py_TPFLAGS_HAVE_GC;
  type->tp_traverse = [](PyObject* self, visitproc visit, void* arg) {
    Py_VISIT(Py_TYPE(self));
    const auto* handle = bound<Handle>(self);
    return handle == nullptr ? 0 : handle->traverse(visit, arg);
  };
  type->tp_clear = [](PyObject* self) {
    if (auto* handle = bound<Handle>(self)) handle->clear();
    return 0;
  };
}

void collect_callees(PyHeapTypeObject* heap_type) {
  PyTypeObject* type = &heap_type->ht_type;
  type->tp_flags |= Py_TPFLAGS_HAVE_GC;
  type->tp_traverse = [](PyObject* self, visitproc visit, void* arg) {
    Py_VISIT(Py_TYPE(self));
    if (auto* callee = bound<PythonCallee>(self)) Py_VISIT(callee->callable().ptr());
    return 0;
  };
  type->tp_clear = [](PyObject* self) {
    if (auto* callee = bound<PythonCallee>(self)) callee->callable() = py::none();
    return 0;
  };
}

const char* to_string(Completion::State state) {
  switch (state) {
    case Completion::State::queued:
      return "queued";
    case Completion::State::running:
      return "running";
    case Completion::State::done:
      return "done";
    case Completion::State::cancelled:
      break;
  }
  return "cancelled";
}

}  // namespace

void bind_executor(py::module_& module) {
  py::class_<Executor, std::shared_ptr<Executor>>(module, "Executor")
      .def(py::init(&make_executor), py::kw_only(), py::arg("cpus"), py::arg("queue_capacity"),
           py::arg("name"), py::arg("idle_spin_us"))
      .def("submit", &submit, py::arg("callee"), py::arg("args"), py::arg("kwargs"),
           py::arg("stream") = py::none())
      .def("submit_parts", &submit_parts, py::arg("callee"), py::arg("parts"))
      .def("streams", &stream_infos)
      .def("pending", [](Executor& executor) { return streams_of(executor)->pending(); })
      .def(
          "repin", [](Executor& executor) { executor.streams()->repin(); },
          py::call_guard<py::gil_scoped_release>())
      .def("shutdown", &Executor::shutdown, py::kw_only(), py::arg("wait"),
           py::arg("cancel_pending"), py::call_guard<py::gil_scoped_release>())
      .def_property_readonly("has_streams", &Executor::has_streams)
      .def_property_readonly("is_shut_down", &Executor::is_shut_down);
}

void bind_handle(py::module_& module) {
  py::class_<Handle, std::shared_ptr<Handle>>(module, "Handle",
                                              py::custom_type_setup(&collect_handles))
      .def("wait", &Handle::wait, py::arg("timeout_s") = py::none())
      .def("result", &Handle::result)
      .def("cancel", &Handle::cancel)
      .def("add_done_callback", &Handle::add_done_callback, py::arg("callback"))
      .def_property_readonly("state",
                             [](const Handle& handle) { return to_string(handle.state()); })
      .def_property_readonly("is_over", [](const Handle& handle) {
        return handle.state() >= Completion::State::done;
      });
}

void bind_callees(py::module_& module) {
  py::class_<Callee>(module, "Callee");
  py::class_<TorchScriptCallee, Callee>(module, "TorchScriptCallee")
      .def(py::init<py::object>(), py::arg("module"))
      .def("set_structure", &TorchScriptCallee::set_structure, py::arg("flatten"),
           py::arg("unflatten"))
      .def("run_here", &TorchScriptCallee::run_here, py::arg("args"), py::arg("kwargs"),
           py::kw_only(), py::arg("may_settle"))
      .def_property_readonly("can_run_here", &TorchScriptCallee::can_run_here)
      .def_property("captures", &TorchScriptCallee::captures, &TorchScriptCallee::set_captures)
      .def_property_readonly("num_captured_runs", &TorchScriptCallee::num_captured_runs)
      .def_property_readonly("captured_bytes", &TorchScriptCallee::captured_bytes);
  py::class_<AOTInductorCallee, Callee>(module, "AOTInductorCallee")
      .def(py::init<std::string, int, std::vector<int64_t>>(), py::arg("path"),
           py::arg("num_runners"), py::arg("batch_sizes") = std::vector<int64_t>(),
           py::call_guard<py::gil_scoped_release>())
      .def(py::init<py::object>(), py::arg("loader"))
      .def("set_structure", &AOTInductorCallee::set_structure, py::arg("flatten"),
           py::arg("unflatten"))
      .def("call_spec", &AOTInductorCallee::call_spec);
  py::class_<PythonCallee, Callee>(module, "PythonCallee", py::custom_type_setup(&collect_callees))
      .def(py::init<py::object>(), py::arg("function"));
}

}  // namespace corestream::python
