// One job as Python sees it: made from Python arguments, ending in a Python value or exception.
#pragma once

#include <torch/csrc/utils/pybind.h>

#include "graph_job.h"

namespace py = pybind11;

namespace corestream::python {

class Call {
 public:
  virtual ~Call() = default;
  virtual const std::shared_ptr<Job>& job() const = 0;

  // Once the job is over, with the GIL, at most once: its value, or throws.
  virtual py::object take() = 0;

  // -1 if no stream ran it.
  virtual int stream_index() const = 0;
};

class GraphCall final : public Call {
 public:
  // `unflatten` makes the caller's structure of the runner's value; None: the value as it is.
  GraphCall(std::shared_ptr<GraphJob> job, py::object unflatten);

  const std::shared_ptr<Job>& job() const override { return job_; }
  py::object take() override;
  int stream_index() const override { return graph_job_->stream_index(); }

 private:
  std::shared_ptr<GraphJob> graph_job_;
  std::shared_ptr<Job> job_;
  py::object unflatten_;
};

// Runs a Python callable: takes the GIL for as long as it runs.
class PythonJob final : public Job {
 public:
  // In the caller's contextvars context and thread state. With the GIL.
  PythonJob(py::object callable, py::tuple args, py::dict kwargs, CallerState state);
  ~PythonJob() override;

  void run(const StreamContext& stream) noexcept override;
  void drop() noexcept override;

  py::object take();
  int stream_index() const { return stream_index_; }

 private:
  py::object call();
  void release_inputs();  // with the GIL

  // Null once let go of: the members' own destructors run where no GIL is held.
  py::object callable_, args_, kwargs_, context_, result_, error_;
  CallerState state_;
  int stream_index_ = -1;
};

class PythonCall final : public Call {
 public:
  explicit PythonCall(std::shared_ptr<PythonJob> job)
      : python_job_(std::move(job)), job_(python_job_) {}

  const std::shared_ptr<Job>& job() const override { return job_; }
  py::object take() override { return python_job_->take(); }
  int stream_index() const override { return python_job_->stream_index(); }

 private:
  std::shared_ptr<PythonJob> python_job_;
  std::shared_ptr<Job> job_;
};

}  // namespace corestream::python
