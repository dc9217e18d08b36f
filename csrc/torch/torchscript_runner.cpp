#include "torchscript_runner.h"

#include <torch/csrc/jit/passes/inliner.h>

#include <utility>

#include "fork.h"
#include "graph_job.h"
#include "stream_set.h"

namespace corestream {
namespace {

bool contains(torch::jit::Block* block, c10::Symbol kind) {
  for (torch::jit::Node* node : block->nodes()) {
    if (node->kind() == kind) return true;
    for (torch::jit::Block* inner : node->blocks()) {
      if (contains(inner, kind)) return true;
    }
    if (node->hasAttribute(torch::jit::attr::Subgraph) &&
        contains(node->g(torch::jit::attr::Subgraph)->block(), kind)) {
      return true;
    }
  }
  return false;
}

// Sends forked work to the streams of the executor that runs the call, where torch's default
// would use its unpinned inter-op threads. The suspended call holds the launcher, and with it
// the runner whose graph it is in the middle of.
torch::jit::TaskLauncher launcher_of(const StreamContext& stream,
                                     std::shared_ptr<TorchScriptRunner> runner) {
  return [streams = stream.streams->weak_from_this(),
          runner = std::move(runner)](std::function<void()> work) {
    const auto alive = streams.lock();
    if (alive == nullptr) return work();  // the streams ended before a call they had suspended
    // The thread that launches the work is under its caller's state.
    auto piece = [work = std::move(work), state = at::ThreadLocalState()] {
      const EndedCalls ended;
      const NativeSection section;
      const CallerStateScope scope(state);
      work();  // the interpreter puts errors into the future that the call waits for
    };
    auto job = std::make_shared<WorkJob<decltype(piece)>>(std::move(piece),
                                                          /*is_continuation=*/true);
    alive->post(job, {}, /*bounded=*/false);
  };
}

}  // namespace

TorchScriptRunner::TorchScriptRunner(torch::jit::Function& function, c10::IValue owner,
                                     std::shared_ptr<torch::jit::CompilationUnit> unit)
    : function_(function), owner_(std::move(owner)), unit_(std::move(unit)) {
  function_.ensure_defined();
  graph_function_ = torch::jit::tryToGraphFunction(function_);
  if (graph_function_ == nullptr) return;
  const auto graph = graph_function_->graph()->copy();
  torch::jit::Inline(*graph);
  has_forks_ = contains(graph->block(), torch::jit::prim::fork);
  calls_python_ = contains(graph->block(), torch::jit::prim::PythonOp);
}

TorchScriptRunner::~TorchScriptRunner() {
  for (Variant* variant = variants_.load(); variant != nullptr;) {
    delete std::exchange(variant, variant->next);
  }
}

TorchScriptRunner::Variant* TorchScriptRunner::find(int team_size) const {
  Variant* variant = variants_.load(std::memory_order_acquire);
  const uint64_t generation = process_generation();
  while (variant != nullptr &&
         (variant->team_size != team_size || variant->generation != generation)) {
    variant = variant->next;
  }
  return variant;
}

TorchScriptRunner::Variant& TorchScriptRunner::variant_for(int team_size) {
  if (Variant* variant = find(team_size)) return *variant;
  const auto lock = adding_.lock();
  if (Variant* variant = find(team_size)) return *variant;
  // A copied graph shares the tensors that are its constants; a module's others come with
  // `self`, an input.
  auto* variant =
      new Variant{.team_size = team_size,
                  .generation = process_generation(),
                  .function = {graph_function_->qualname(), graph_function_->graph()->copy(),
                               /*function_creator=*/nullptr},
                  .next = variants_.load(),
                  .captures = nullptr,
                  .settled = {}};
  if (!has_forks_ && !calls_python_) {
    variant->captures = std::make_unique<CapturedGraphs>(*graph_function_->graph());
  }
  variants_.store(variant, std::memory_order_release);
  return *variant;
}

bool TorchScriptRunner::is_of_this_process(const Variant& variant) {
  return variant.captures != nullptr && variant.generation == process_generation();
}

uint64_t TorchScriptRunner::num_captured_runs() const {
  uint64_t sum = 0;
  for (const Variant* variant = variants_.load(); variant != nullptr; variant = variant->next) {
    if (is_of_this_process(*variant)) sum += variant->captures->num_runs();
  }
  return sum;
}

size_t TorchScriptRunner::captured_bytes() const {
  size_t sum = 0;
  for (const Variant* variant = variants_.load(); variant != nullptr; variant = variant->next) {
    if (is_of_this_process(*variant)) sum += variant->captures->num_bytes();
  }
  return sum;
}

c10::IValue TorchScriptRunner::run(torch::jit::Stack inputs, const StreamContext& stream) {
  if (graph_function_ == nullptr) {
    function_.run(inputs);
    return std::move(inputs.front());
  }
  Variant& variant = variant_for(stream.team_size);
  // Python code may wait for another call of this very model, which must not wait for its turn.
  if (calls_python_) return run_settled(variant, inputs, stream);
  const uint64_t signature = shape_signature(inputs);
  if (variant.settled.contains(signature)) return run_or_repeat(variant, inputs, signature, stream);
  return run_in_turn(variant, inputs, signature);
}

std::optional<c10::IValue> TorchScriptRunner::run_if_settled(torch::jit::Stack& inputs,
                                                             const StreamContext& stream) {
  Variant* variant = find(stream.team_size);
  if (variant == nullptr) return std::nullopt;
  const uint64_t signature = shape_signature(inputs);
  if (!variant->settled.contains(signature)) return std::nullopt;
  return run_or_repeat(*variant, inputs, signature, stream);
}

c10::IValue TorchScriptRunner::run_or_repeat(Variant& variant, torch::jit::Stack& inputs,
                                             uint64_t signature, const StreamContext& stream) {
  const auto as_usual = [&] { return run_settled(variant, inputs, stream); };
  if (variant.captures == nullptr) return as_usual();
  return variant.captures->run(signature, inputs, captures(), as_usual);
}

c10::IValue TorchScriptRunner::run_settled(Variant& variant, torch::jit::Stack& inputs,
                                           const StreamContext& stream) {
  if (has_forks_) return variant.function.runAsync(inputs, launcher_of(stream, shared_from_this()));
  variant.function.run(inputs);
  TORCH_INTERNAL_ASSERT(inputs.size() == 1);
  return std::move(inputs.front());
}

c10::IValue TorchScriptRunner::run_in_turn(Variant& variant, torch::jit::Stack& inputs,
                                           uint64_t signature) {
  const auto turn = variant.settled.take_turn();
  c10::IValue value;
  if (has_forks_) {
    // Forks run where they stand, so that the call ends within its turn.
    const auto future =
        variant.function.runAsync(inputs, [](std::function<void()> work) { work(); });
    future->wait();
    if (future->hasError()) std::rethrow_exception(future->exception_ptr());
    value = future->value();
  } else {
    variant.function.run(inputs);
    value = std::move(inputs.front());
  }
  if (turn.owns_lock()) variant.settled.count_run(signature);
  return value;
}

}  // namespace corestream
