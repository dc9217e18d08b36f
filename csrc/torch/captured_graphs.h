// The captures of one graph: for each shape that comes, as many as streams run it at a time.
#pragma once

#include <ATen/core/ivalue.h>
#include <ATen/core/stack.h>
#include <torch/csrc/jit/ir/ir.h>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <unordered_map>
#include <vector>

#include "captured_graph.h"

namespace corestream {

// When calls are done by captured graphs: where these were faster in the first calls of a shape, or
// wherever they can be.
enum class Captures : uint8_t { measured, always, never };

// Any thread.
class CapturedGraphs {
 public:
  // `graph` must outlive this.
  explicit CapturedGraphs(const torch::jit::Graph& graph);

  // The graph's output for inputs of that signature (settled_shapes.h): by a captured graph, or by
  // run_as_usual() where capturing is of no use, or cannot be done.
  c10::IValue run(uint64_t signature, torch::jit::Stack& inputs, Captures when,
                  const std::function<c10::IValue()>& run_as_usual);

  // Calls that captured graphs did.
  uint64_t num_runs() const { return num_runs_.load(std::memory_order_relaxed); }
  size_t num_bytes() const;

 private:
  using Time = std::chrono::steady_clock::duration;

  using Graphs = std::vector<std::unique_ptr<CapturedGraph>>;

  // The shortest of some calls.
  struct Timing {
    int calls = 0;
    Time shortest = Time::max();
  };
  struct Shape {
    bool is_decided = false, is_captured = true;
    Timing usual, captured;
    Graphs idle;
    size_t num_bytes = 0;
  };

  c10::IValue run_captured(Shape& shape, torch::jit::Stack& inputs,
                           const std::function<c10::IValue()>& run_as_usual);
  c10::IValue time(Shape& shape, Timing& timing, const std::function<c10::IValue()>& run);
  c10::IValue capture(Shape& shape, const torch::jit::Stack& inputs,
                      const std::function<c10::IValue()>& run_as_usual);
  // What is dropped, to be destroyed without the lock.
  [[nodiscard]] Graphs decide(Shape& shape);
  [[nodiscard]] Graphs leave(Shape& shape);
  void give_back(Shape& shape, std::unique_ptr<CapturedGraph> graph);
  std::unique_ptr<CapturedGraph> take(Shape& shape);

  // Shapes that came once must not pile up, nor the memory of captures.
  static constexpr size_t kMostShapes = 64;
  static constexpr size_t kMostBytes = size_t{256} << 20;

  const torch::jit::Graph& graph_;
  int64_t num_calls_ = 0;  // of operators; 0 if it may not be captured
  mutable std::mutex mutex_;
  std::unordered_map<uint64_t, Shape> shapes_;
  size_t num_bytes_ = 0;
  std::atomic<uint64_t> num_runs_{0};
};

}  // namespace corestream
