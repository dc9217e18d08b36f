// One call of a model on a stream.
#pragma once

#include <ATen/ThreadLocalState.h>

#include <exception>
#include <vector>

#include "job.h"
#include "runner.h"

namespace corestream {

// The caller's grad mode, inference mode, autocast and profiler, shared by the parts of a call.
using CallerState = std::shared_ptr<const at::ThreadLocalState>;

CallerState capture_caller_state();

// Makes a stream's thread look like the caller's for the scope's life.
class CallerStateScope {
 public:
  explicit CallerStateScope(const at::ThreadLocalState& state);
  ~CallerStateScope();
  CallerStateScope(const CallerStateScope&) = delete;
  CallerStateScope& operator=(const CallerStateScope&) = delete;

 private:
  const at::ThreadLocalState before_;
  bool autocast_cache_;
};

class GraphJob;

// While one lives, suspended calls that end on its thread are kept; its end tells their waiters.
// A done-callback may need the GIL, which a thread that forks holds while it waits for native
// sections to end: no callback may run inside one. Each job has its own, since a job that another
// one waits for, and runs inline, must be told of before the other goes on.
class EndedCalls {
 public:
  EndedCalls();
  ~EndedCalls();
  EndedCalls(const EndedCalls&) = delete;
  EndedCalls& operator=(const EndedCalls&) = delete;

  static void finish_or_keep(std::shared_ptr<GraphJob> job) noexcept;

 private:
  std::vector<std::shared_ptr<GraphJob>> jobs_;
  EndedCalls* const outer_;
};

class GraphJob final : public Job, public std::enable_shared_from_this<GraphJob> {
 public:
  GraphJob(std::shared_ptr<Runner> runner, torch::jit::Stack inputs, CallerState state);

  void run(const StreamContext& stream) noexcept override;
  void drop() noexcept override;

  // Once over: the value, or throws what the model threw. The value may be taken once.
  c10::IValue take_result();

  // The stream that ran it, -1 if none did.
  int stream_index() const { return stream_index_; }

 private:
  void release_inputs() noexcept;

  std::shared_ptr<Runner> runner_;
  torch::jit::Stack inputs_;
  CallerState state_;
  c10::IValue result_;
  std::exception_ptr error_;
  int stream_index_ = -1;
};

}  // namespace corestream
