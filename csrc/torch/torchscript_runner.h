// Runs a TorchScript method: one module, one set of weights, any number of streams.
#pragma once

#include <torch/csrc/jit/api/module.h>

#include "runner.h"

namespace corestream {

class TorchScriptRunner final : public Runner {
 public:
  // `owner` keeps a module alive that `function` belongs to; None for a free function.
  TorchScriptRunner(torch::jit::Function& function, c10::IValue owner);

  // Inputs: the module (if any), then the arguments, in the schema's order.
  c10::IValue run(torch::jit::Stack inputs, const StreamContext& stream) override;

  const torch::jit::Function& function() const { return function_; }
  const c10::IValue& owner() const { return owner_; }

  // Whether the graph has torch.jit.fork: such calls suspend instead of blocking their stream.
  bool has_forks() const { return has_forks_; }

 private:
  torch::jit::Function& function_;
  c10::IValue owner_;
  bool has_forks_;
};

}  // namespace corestream
