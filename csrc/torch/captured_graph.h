// A graph run again without what surrounds the work of its operators: the interpreter, dispatch,
// checks, the memory of its outputs and a team's beginning and end at each. As CUDA's graphs do it
// for kernels of a GPU.
//
// Before a layer's work begins, the interpreter and the dispatcher have taken 1.5 us and waking a
// team of two 2.3 us (Zen 3): 0.2 of the 2.1 ms that MobileNetV2 takes for an image on two cores.
// Here all operators of ours share one parallel region, and meet at a barrier in between.
#pragma once

#include <ATen/core/ivalue.h>
#include <ATen/core/stack.h>
#include <torch/csrc/jit/ir/ir.h>

#include <memory>
#include <optional>
#include <utility>
#include <variant>
#include <vector>

#include "capture.h"

namespace corestream {

// Whether it may be captured, as far as that can be told without running it: no branches, no side
// effects, and an operator of ours.
bool may_capture(const torch::jit::Graph& graph);

// For one thread at a time.
class CapturedGraph {
 public:
  // Runs a graph that may be captured, and returns its outputs. What it did is added to `captured`,
  // which stays null if it cannot be done again: where numbers of a tensor decide, or too little is
  // by operators of ours.
  static c10::IValue capture(const torch::jit::Graph& graph, const torch::jit::Stack& inputs,
                             std::unique_ptr<CapturedGraph>& captured);

  // Whether inputs are as those that it was captured with, but for the numbers in them.
  bool fits(const torch::jit::Stack& inputs) const;

  // Requires: fits(inputs), and modes as in the capture. Nothing where an operator of torch gives
  // another shape than it gave.
  std::optional<c10::IValue> run(const torch::jit::Stack& inputs);

  size_t num_bytes() const { return num_bytes_; }

 private:
  friend class GraphRecorder;

  struct Input {
    at::Tensor held;  // undefined for what the graph does not use
    bool is_read = false;
  };
  using OwnWork = std::vector<TeamWork>;
  // An operator that only torch can run again, into the memory of the output that it had.
  struct TorchCall {
    torch::jit::Operation run;
    torch::jit::Stack arguments;
    std::vector<std::pair<size_t, size_t>> inputs;  // (argument, input of the graph)
    std::vector<at::Tensor> outputs;
    bool is_copy;  // of the first argument
  };

  static void run_own(const OwnWork& works);
  static bool run_torch(TorchCall& call, const torch::jit::Stack& inputs);

  std::vector<Input> inputs_;
  std::vector<std::variant<OwnWork, TorchCall>> parts_;
  c10::IValue output_;
  // What works read and write, also where no tensor of it is left.
  std::shared_ptr<ReusedMemory> memory_;
  size_t num_bytes_ = 0;
};

}  // namespace corestream
