#include "errors.h"

#include <pybind11/pybind11.h>

#include "corestream/errors.h"

namespace py = pybind11;

namespace corestream::python {
namespace {

void raise(const char* module, const char* name, const std::exception& error) {
  const py::object type = py::module_::import(module).attr(name);
  PyErr_SetString(type.ptr(), error.what());
}

// system_error appends ": <strerror>" to its message; OSError shows errno by itself.
void raise_os_error(const std::system_error& error) {
  const py::object arguments = py::make_tuple(error.code().value(), error.what());
  PyErr_SetObject(PyExc_OSError, arguments.ptr());
}

void translate(std::exception_ptr pointer) {
  try {
    std::rethrow_exception(pointer);
  } catch (const QueueFull& error) {
    raise("corestream.errors", "QueueFull", error);
  } catch (const ShutDown& error) {
    raise("corestream.errors", "ShutDown", error);
  } catch (const ForkedFuture& error) {
    raise("corestream.errors", "ForkedFuture", error);
  } catch (const Cancelled& error) {
    raise("concurrent.futures", "CancelledError", error);
  } catch (const std::system_error& error) {
    raise_os_error(error);
  }
}

}  // namespace

void register_error_translators() { py::register_local_exception_translator(&translate); }

}  // namespace corestream::python
