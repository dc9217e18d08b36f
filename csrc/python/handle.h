// The native half of a Future: one call, or the parts of one call on several streams.
#pragma once

#include <mutex>

#include "call.h"
#include "task_group.h"

namespace corestream::python {

class Handle {
 public:
  // Posts a single call / the parts of one. Throws as StreamSet::post / post_group.
  static std::shared_ptr<Handle> submit(std::shared_ptr<StreamSet> streams,
                                        std::unique_ptr<Call> call, Placement placement);
  static std::shared_ptr<Handle> submit_parts(std::shared_ptr<StreamSet> streams,
                                              std::vector<std::unique_ptr<Call>> calls);

  // Releases the GIL. False if `timeout_s` passed first; raises KeyboardInterrupt.
  bool wait(std::optional<double> timeout_s);

  // Once over: the value (for parts, the list of their values), or raises the (first) error,
  // which names its stream. The same object at every call.
  py::object result();

  Completion::State state() const { return completion_->state(); }
  bool cancel();
  void add_done_callback(py::object callback);

  // For Python's garbage collector: an error holds a traceback, whose frames may hold this.
  int traverse(visitproc visit, void* argument) const;
  void clear();

 private:
  py::object take(Call& call);
  py::object take_all();
  bool wait_on_own_stream(const Deadline& deadline);
  std::string where(const Call& call) const;

  std::shared_ptr<StreamSet> streams_;
  std::vector<std::unique_ptr<Call>> calls_;
  std::shared_ptr<TaskGroup> group_;  // null for a single call
  std::shared_ptr<Completion> completion_;
  Placement placement_;
  std::mutex taking_;  // never waited for with the GIL held
  bool is_taken_ = false;
  py::object value_, error_;
};

}  // namespace corestream::python
