// C++ errors as Python ones.
#pragma once

namespace corestream::python {

// Registers what pybind11 does not map by itself: system_error -> OSError (errno and message),
// QueueFull, ShutDown, Cancelled and ForkedFuture -> corestream.errors.
void register_error_translators();

}  // namespace corestream::python
