#include "plain_structure.h"

#include <torch/csrc/autograd/python_variable.h>

#include <vector>

#include "tensor_parts.h"

namespace corestream::python {
namespace {

bool is_tensor(py::handle value) { return THPVariable_Check(value.ptr()); }

const at::Tensor& tensor_of(py::handle value) { return THPVariable_Unpack(value.ptr()); }

bool is_plain_leaf(py::handle value) {
  PyObject* object = value.ptr();
  return object == Py_None || PyBool_Check(object) || PyLong_CheckExact(object) ||
         PyFloat_CheckExact(object) || PyUnicode_CheckExact(object) || PyBytes_CheckExact(object);
}

// A container that holds itself has no end.
struct RecursionLevel {
  RecursionLevel() {
    if (Py_EnterRecursiveCall(" while splitting the arguments") != 0) throw py::error_already_set();
  }
  ~RecursionLevel() { Py_LeaveRecursiveCall(); }
  RecursionLevel(const RecursionLevel&) = delete;
  RecursionLevel& operator=(const RecursionLevel&) = delete;
};

// What is cut, and how long it is.
struct Batch {
  bool is_plain = true;
  int64_t size = -1;

  void add(py::handle value) {
    const RecursionLevel level;
    PyObject* object = value.ptr();
    if (is_tensor(value)) {
      const auto& tensor = tensor_of(value);
      if (tensor.dim() == 0) return;
      if (size < 0) size = tensor.size(0);
      is_plain = is_plain && tensor.layout() == at::kStrided && !tensor.is_nested();
      is_plain = is_plain && tensor.size(0) == size;
    } else if (PyTuple_CheckExact(object) || PyList_CheckExact(object)) {
      for (const py::handle child : value) add(child);
    } else if (PyDict_CheckExact(object)) {
      for (const auto& entry : py::reinterpret_borrow<py::dict>(value)) add(entry.second);
    } else {
      is_plain = is_plain && is_plain_leaf(value);
    }
  }
};

// `value` from start on, `length` items of each tensor; itself where nothing is cut.
py::object part_of(py::handle value, int64_t start, int64_t length) {
  PyObject* object = value.ptr();
  if (is_tensor(value)) {
    const auto& tensor = tensor_of(value);
    if (tensor.dim() > 0) return py::cast(tensor.narrow(0, start, length));
  } else if (PyTuple_CheckExact(object) || PyList_CheckExact(object)) {
    bool is_cut = false;
    py::list contents;
    for (const py::handle child : value) {
      py::object part = part_of(child, start, length);
      is_cut = is_cut || !part.is(child);
      contents.append(std::move(part));
    }
    if (is_cut && PyTuple_CheckExact(object)) return py::tuple(std::move(contents));
    if (is_cut) return contents;
  } else if (PyDict_CheckExact(object)) {
    bool is_cut = false;
    py::dict contents;
    for (const auto& [key, child] : py::reinterpret_borrow<py::dict>(value)) {
      py::object part = part_of(child, start, length);
      is_cut = is_cut || !part.is(child);
      contents[key] = std::move(part);
    }
    if (is_cut) return contents;
  }
  return py::reinterpret_borrow<py::object>(value);
}

// Owned: joining lets the GIL go, and a container may be somebody else's to change.
using Parts = std::vector<py::object>;

// Null for what is not plain or cannot be joined.
py::object join(const Parts& parts);

bool all_of_type(const Parts& parts, PyTypeObject* type) {
  for (const py::handle part : parts) {
    if (Py_TYPE(part.ptr()) != type) return false;
  }
  return true;
}

py::object join_tensors(const Parts& parts) {
  std::vector<at::Tensor> tensors;
  for (const py::handle part : parts) {
    if (!is_tensor(part)) return {};
    tensors.push_back(tensor_of(part));
  }
  const at::Tensor& first = tensors.front();
  for (const at::Tensor& tensor : tensors) {
    const bool fits = tensor.dim() > 0 && tensor.dim() == first.dim() &&
                      tensor.scalar_type() == first.scalar_type() &&
                      tensor.layout() == at::kStrided && first.layout() == at::kStrided &&
                      tensor.sizes().slice(1) == first.sizes().slice(1);
    if (!fits) return {};
  }
  at::Tensor joined;
  {
    const py::gil_scoped_release no_gil;
    joined = concat_tensors(tensors, 0);
  }
  return py::cast(std::move(joined));
}

py::object join_sequences(const Parts& parts) {
  const auto size = py::len(parts.front());
  for (const py::handle part : parts) {
    if (py::len(part) != size) return {};
  }
  py::list contents;
  for (size_t index = 0; index < size; ++index) {
    Parts column;
    for (const py::handle part : parts) {
      if (py::len(part) <= index) return {};
      column.push_back(py::reinterpret_borrow<py::object>(
          PySequence_Fast_GET_ITEM(part.ptr(), static_cast<Py_ssize_t>(index))));
    }
    py::object joined = join(column);
    if (!joined) return {};
    contents.append(std::move(joined));
  }
  if (PyTuple_CheckExact(parts.front().ptr())) return py::tuple(std::move(contents));
  return contents;
}

py::object join_dicts(const Parts& parts) {
  const auto first = py::reinterpret_steal<py::dict>(PyDict_Copy(parts.front().ptr()));
  py::dict contents;
  for (const auto& [key, unused] : first) {
    Parts column;
    for (const py::handle part : parts) {
      PyObject* entry = PyDict_GetItemWithError(part.ptr(), key.ptr());
      if (entry == nullptr || py::len(part) != first.size()) return {};
      column.push_back(py::reinterpret_borrow<py::object>(entry));
    }
    py::object joined = join(column);
    if (!joined) return {};
    contents[key] = std::move(joined);
  }
  return contents;
}

py::object join(const Parts& parts) {
  const py::handle first = parts.front();
  if (is_tensor(first)) return join_tensors(parts);
  if (!all_of_type(parts, Py_TYPE(first.ptr()))) return {};
  if (PyTuple_CheckExact(first.ptr()) || PyList_CheckExact(first.ptr())) {
    return join_sequences(parts);
  }
  if (PyDict_CheckExact(first.ptr())) return join_dicts(parts);
  if (!is_plain_leaf(first)) return {};
  for (const py::handle part : parts) {
    if (!part.equal(first)) return {};
  }
  return py::reinterpret_borrow<py::object>(first);
}

}  // namespace

py::object split_plain(const py::tuple& args, const py::dict& kwargs, int64_t num_parts) {
  Batch batch;
  batch.add(args);
  batch.add(kwargs);
  if (!batch.is_plain) return py::reinterpret_borrow<py::object>(Py_NotImplemented);
  const int64_t count = std::min(batch.size, num_parts);
  py::list parts;
  if (count < 2) {
    parts.append(py::make_tuple(args, kwargs));
    return parts;
  }
  int64_t start = 0;
  for (int64_t part = 0; part < count; ++part) {
    const int64_t length = batch.size / count + (part < batch.size % count ? 1 : 0);
    parts.append(py::make_tuple(part_of(args, start, length), part_of(kwargs, start, length)));
    start += length;
  }
  return parts;
}

py::object concat_plain(const py::list& outputs) {
  Parts parts;
  for (const py::handle output : outputs) {
    parts.push_back(py::reinterpret_borrow<py::object>(output));
  }
  py::object joined = join(parts);
  return joined ? joined : py::reinterpret_borrow<py::object>(Py_NotImplemented);
}

}  // namespace corestream::python
