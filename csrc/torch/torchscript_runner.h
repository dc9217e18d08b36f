// Runs a TorchScript method: one module, one set of weights, any number of streams.
#pragma once

#include <torch/csrc/jit/api/function_impl.h>
#include <torch/csrc/jit/api/module.h>

#include <atomic>
#include <optional>

#include "captured_graphs.h"
#include "fork.h"
#include "runner.h"
#include "settled_shapes.h"

namespace corestream {

class TorchScriptRunner final : public Runner,
                                public std::enable_shared_from_this<TorchScriptRunner> {
 public:
  // `owner` keeps a module alive that `function` belongs to; None for a free function, which its
  // compilation unit `unit` keeps.
  TorchScriptRunner(torch::jit::Function& function, c10::IValue owner,
                    std::shared_ptr<torch::jit::CompilationUnit> unit = nullptr);
  ~TorchScriptRunner() override;

  // Inputs: the module (if any), then the arguments, in the schema's order.
  c10::IValue run(torch::jit::Stack inputs, const StreamContext& stream) override;

  // As run(), but only if nothing is compiled any more for such inputs on a team of that size.
  std::optional<c10::IValue> run_if_settled(torch::jit::Stack& inputs, const StreamContext& stream);

  // Whether run() needs a stream, to which a graph's forks go, or calls Python.
  bool needs_stream() const { return has_forks_ || calls_python_ || graph_function_ == nullptr; }

  const torch::jit::Function& function() const { return function_; }
  const c10::IValue& owner() const { return owner_; }

  // At first as measured.
  void set_captures(Captures when) { captures_.store(when, std::memory_order_relaxed); }
  Captures captures() const { return captures_.load(std::memory_order_relaxed); }

  // Of calls and of bytes, over all team sizes: those that captured graphs did, and hold.
  uint64_t num_captured_runs() const;
  size_t captured_bytes() const;

 private:
  // TorchScript optimises a function once, for the thread that happens to run it: oneDNN's
  // fused kernels then ask for that thread's team size for ever, and a stream of one core that
  // runs them gets a second thread on its only CPU. So each team size has a function of its
  // own, made from the same graph over the same weights.
  struct Variant {
    int team_size;
    uint64_t generation;  // a forked child makes its own: locks in this one may be held for ever
    torch::jit::GraphFunction function;
    Variant* next;
    std::unique_ptr<CapturedGraphs> captures;  // null if there cannot be any
    SettledShapes settled;
  };

  // Requires: graph_function_ is not null.
  Variant& variant_for(int team_size);
  Variant* find(int team_size) const;
  static bool is_of_this_process(const Variant& variant);

  c10::IValue run_settled(Variant& variant, torch::jit::Stack& inputs, const StreamContext& stream);
  c10::IValue run_or_repeat(Variant& variant, torch::jit::Stack& inputs, uint64_t signature,
                            const StreamContext& stream);
  c10::IValue run_in_turn(Variant& variant, torch::jit::Stack& inputs, uint64_t signature);

  torch::jit::Function& function_;
  torch::jit::GraphFunction* graph_function_;  // null if it is no graph
  std::atomic<Variant*> variants_{nullptr};
  std::atomic<Captures> captures_{Captures::measured};
  ProcessMutex adding_;
  c10::IValue owner_;
  std::shared_ptr<torch::jit::CompilationUnit> unit_;
  bool has_forks_ = false;  // calls suspend instead of blocking their stream
  bool calls_python_ = false;
};

}  // namespace corestream
