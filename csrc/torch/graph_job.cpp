#include "graph_job.h"

#include "corestream/errors.h"
#include "fork.h"

namespace corestream {
namespace {

// What the stream's thread looks like between tasks; taken before its first task.
const at::ThreadLocalState& idle_state() {
  static thread_local const at::ThreadLocalState state;
  return state;
}

}  // namespace

CallerState capture_caller_state() { return std::make_shared<const at::ThreadLocalState>(); }

CallerStateScope::CallerStateScope(const at::ThreadLocalState& state) {
  idle_state();
  at::ThreadLocalState::setThreadLocalState(state);
}

CallerStateScope::~CallerStateScope() { at::ThreadLocalState::setThreadLocalState(idle_state()); }

GraphJob::GraphJob(std::shared_ptr<Runner> runner, torch::jit::Stack inputs, CallerState state)
    : runner_(std::move(runner)), inputs_(std::move(inputs)), state_(std::move(state)) {}

void GraphJob::run(const StreamContext& stream) noexcept {
  stream_index_ = stream.index;
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
    self->finish();
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
