#include "torchscript_runner.h"

#include <torch/csrc/jit/api/function_impl.h>
#include <torch/csrc/jit/passes/inliner.h>

#include "fork.h"
#include "stream_set.h"

namespace corestream {
namespace {

bool has_fork(torch::jit::Block* block) {
  for (torch::jit::Node* node : block->nodes()) {
    if (node->kind() == torch::jit::prim::fork) return true;
    for (torch::jit::Block* inner : node->blocks()) {
      if (has_fork(inner)) return true;
    }
  }
  return false;
}

bool has_fork(torch::jit::Function& function) {
  auto* graph_function = torch::jit::tryToGraphFunction(function);
  if (graph_function == nullptr) return false;
  const auto graph = graph_function->graph()->copy();
  torch::jit::Inline(*graph);
  return has_fork(graph->block());
}

// A piece of a suspended call: a forked sub-task, or what comes after a wait.
class ContinuationJob final : public Job {
 public:
  explicit ContinuationJob(std::function<void()> work) : work_(std::move(work)) {}

  void run(const StreamContext&) noexcept override {
    {
      const NativeSection section;
      // The interpreter puts its errors into the future that the call waits for.
      work_();
    }
    work_ = nullptr;
    finish();
  }

  void drop() noexcept override { work_ = nullptr; }

 private:
  std::function<void()> work_;
};

// Sends forked work to the streams of the executor that runs the call, where torch's default
// would use its unpinned inter-op threads.
torch::jit::TaskLauncher launcher_of(const StreamContext& stream) {
  return [streams = stream.streams->weak_from_this()](std::function<void()> work) {
    const auto alive = streams.lock();
    alive->post(std::make_shared<ContinuationJob>(std::move(work)), {}, /*bounded=*/false);
  };
}

}  // namespace

TorchScriptRunner::TorchScriptRunner(torch::jit::Function& function, c10::IValue owner)
    : function_(function), owner_(std::move(owner)), has_forks_(has_fork(function)) {}

c10::IValue TorchScriptRunner::run(torch::jit::Stack inputs, const StreamContext& stream) {
  if (has_forks_) return function_.runAsync(inputs, launcher_of(stream));
  function_.run(inputs);
  TORCH_INTERNAL_ASSERT(inputs.size() == 1);
  return std::move(inputs.front());
}

}  // namespace corestream
