#include "graph_job.h"

#include <ATen/autocast_mode.h>

#include <utility>

#include "corestream/errors.h"
#include "fork.h"

namespace corestream {
namespace {

thread_local EndedCalls* innermost_ended = nullptr;

}  // namespace

CallerState capture_caller_state() { return std::make_shared<const at::ThreadLocalState>(); }

// Autocast keeps cast weights until its caller leaves the autocast block. A stream never does:
// a weight changed later would go on being used as it was.
CallerStateScope::CallerStateScope(const at::ThreadLocalState& state)
    : before_(), autocast_cache_(at::autocast::is_autocast_cache_enabled()) {
  at::ThreadLocalState::setThreadLocalState(state);
  at::autocast::set_autocast_cache_enabled(false);
}

CallerStateScope::~CallerStateScope() {
  at::autocast::set_autocast_cache_enabled(autocast_cache_);
  at::ThreadLocalState::setThreadLocalState(before_);
}

EndedCalls::EndedCalls() : outer_(std::exchange(innermost_ended, this)) {}

EndedCalls::~EndedCalls() {
  innermost_ended = outer_;
  for (const auto& job : jobs_) job->finish();
}

void EndedCalls::finish_or_keep(std::shared_ptr<GraphJob> job) noexcept {
  if (innermost_ended == nullptr) return job->finish();
  innermost_ended->jobs_.push_back(std::move(job));
}

GraphJob::GraphJob(std::shared_ptr<Runner> runner, torch::jit::Stack inputs, CallerState state)
    : runner_(std::move(runner)), inputs_(std::move(inputs)), state_(std::move(state)) {}

void GraphJob::run(const StreamContext& stream) noexcept {
  stream_index_ = stream.index;
  const EndedCalls ended;
  c10::IValue value;
  try {
    const NativeSection section;
    const CallerStateScope scope(*state_);
    value = runner_->run(std::move(inputs_), stream);
  } catch (...) {
    error_ = std::current_exception();
  }
  release_inputs();
  if (!value.isFuture()) {
    result_ = std::move(value);
    finish();
    return;
  }
  auto future = value.toFuture();
  future->addCallback([self = shared_from_this()](c10::ivalue::Future& over) {
    if (over.hasError()) {
      self->error_ = over.exception_ptr();
    } else {
      self->result_ = over.value();
    }
    EndedCalls::finish_or_keep(self);
  });
}

void GraphJob::drop() noexcept { release_inputs(); }

void GraphJob::release_inputs() noexcept {
  inputs_.clear();
  state_.reset();
  runner_.reset();
}

c10::IValue GraphJob::take_result() {
  if (state() == State::cancelled) throw Cancelled("the task was cancelled before it started");
  if (error_) std::rethrow_exception(error_);
  return std::move(result_);
}

}  // namespace corestream
