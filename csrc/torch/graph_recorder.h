// Runs a graph node by node, and records what CapturedGraph needs to run it again.
#pragma once

#include <torch/csrc/jit/ir/ir.h>

#include <memory>
#include <optional>
#include <unordered_map>
#include <vector>

#include "captured_graph.h"

namespace corestream {

class GraphRecorder {
 public:
  GraphRecorder(const torch::jit::Graph& graph, const torch::jit::Stack& inputs);

  // The graph's outputs. Throws what an operator throws.
  c10::IValue run();

  // What was recorded; null if that is not all.
  std::unique_ptr<CapturedGraph> take();

 private:
  void run(const torch::jit::Node& node);
  void call(const torch::jit::Node& node, torch::jit::Stack& stack);
  void record_own(std::vector<TeamWork> works, const torch::jit::Stack& arguments);
  void record_torch(const torch::jit::Node& node, torch::jit::Stack arguments,
                    const torch::jit::Stack& outputs);
  void mark_read(const c10::IValue& value);
  std::optional<size_t> input_of(const at::Tensor& tensor) const;

  // Of a value that is not used any more its memory is given back.
  c10::IValue take_value(const torch::jit::Value* value);
  bool may_return(const c10::IValue& output) const;

  const torch::jit::Graph& graph_;
  std::unordered_map<const torch::jit::Value*, c10::IValue> values_;
  std::unordered_map<const torch::jit::Value*, size_t> uses_left_;
  std::unique_ptr<CapturedGraph> captured_;  // null once it is known that it will not do
  int64_t own_regions_ = 0, torch_calls_ = 0;
  Capture capture_;
};

}  // namespace corestream
