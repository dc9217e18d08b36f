#include "captured_graphs.h"

#include <ATen/record_function.h>
#include <c10/core/impl/TorchDispatchModeTLS.h>

#include <algorithm>
#include <chrono>
#include <utility>

namespace corestream {
namespace {

// Of an operator, on average. A capture saves about 4 us of it, and holds memory: where operators
// take longer, that is less than half a percent.
constexpr std::chrono::milliseconds kLongest{1};

// Calls of each kind that are timed.
constexpr int kTimedCalls = 5;

int64_t count_calls(const torch::jit::Graph& graph) {
  if (!may_capture(graph)) return 0;
  int64_t count = 0;
  for (const torch::jit::Node* node : graph.nodes()) {
    if (node->maybeSchema() != nullptr) ++count;
  }
  return count;
}

// A profiler must see the operators, and a mode wants their calls.
bool is_watched() { return at::hasCallbacks() || c10::impl::TorchDispatchModeTLS::any_modes_set(); }

}  // namespace

CapturedGraphs::CapturedGraphs(const torch::jit::Graph& graph)
    : graph_(graph), num_calls_(count_calls(graph)) {}

c10::IValue CapturedGraphs::run(uint64_t signature, torch::jit::Stack& inputs, Captures when,
                                const std::function<c10::IValue()>& run_as_usual) {
  if (num_calls_ == 0 || when == Captures::never || is_watched()) return run_as_usual();
  std::unique_lock lock(mutex_);
  if (shapes_.size() >= kMostShapes && !shapes_.contains(signature)) return run_as_usual();
  Shape& shape = shapes_[signature];  // stays where it is when others are added
  const bool is_timed = when == Captures::measured && !shape.is_decided;
  const bool times_usual = is_timed && shape.usual.calls < kTimedCalls;
  const bool captures = shape.is_captured && !times_usual;
  const bool is_first = captures && shape.idle.empty();
  const bool is_full = is_first && num_bytes_ >= kMostBytes;
  lock.unlock();
  if (times_usual) return time(shape, shape.usual, run_as_usual);
  if (!captures || is_full) return run_as_usual();
  if (is_first) return capture(shape, inputs, run_as_usual);
  const auto run_again = [&] { return run_captured(shape, inputs, run_as_usual); };
  return is_timed ? time(shape, shape.captured, run_again) : run_again();
}

// Errors are those of a run as usual, which has them once more.
c10::IValue CapturedGraphs::run_captured(Shape& shape, torch::jit::Stack& inputs,
                                         const std::function<c10::IValue()>& run_as_usual) {
  auto graph = take(shape);
  if (graph == nullptr || !graph->fits(inputs)) {
    give_back(shape, std::move(graph));
    return run_as_usual();
  }
  std::optional<c10::IValue> output;
  bool has_failed = false;
  try {
    output = graph->run(inputs);
  } catch (...) {
    has_failed = true;
  }
  give_back(shape, std::move(graph));
  if (has_failed) return run_as_usual();
  if (!output.has_value()) {
    Graphs dropped;
    {
      const std::lock_guard lock(mutex_);
      dropped = leave(shape);
    }
    return run_as_usual();
  }
  num_runs_.fetch_add(1, std::memory_order_relaxed);
  return *output;
}

void CapturedGraphs::give_back(Shape& shape, std::unique_ptr<CapturedGraph> graph) {
  if (graph == nullptr) return;
  const std::lock_guard lock(mutex_);
  if (shape.is_captured) shape.idle.push_back(std::move(graph));
}

// Null if other streams have taken all that there were.
std::unique_ptr<CapturedGraph> CapturedGraphs::take(Shape& shape) {
  const std::lock_guard lock(mutex_);
  if (shape.idle.empty()) return nullptr;
  auto graph = std::move(shape.idle.back());
  shape.idle.pop_back();
  return graph;
}

c10::IValue CapturedGraphs::time(Shape& shape, Timing& timing,
                                 const std::function<c10::IValue()>& run) {
  const auto begin = std::chrono::steady_clock::now();
  c10::IValue output = run();
  const Time taken = std::chrono::steady_clock::now() - begin;
  Graphs dropped;
  const std::lock_guard lock(mutex_);
  ++timing.calls;
  timing.shortest = std::min(timing.shortest, taken);
  dropped = decide(shape);
  return output;
}

CapturedGraphs::Graphs CapturedGraphs::decide(Shape& shape) {
  if (shape.is_decided || shape.usual.calls < kTimedCalls) return {};
  if (shape.usual.shortest > num_calls_ * kLongest) return leave(shape);
  if (shape.captured.calls < kTimedCalls) return {};
  shape.is_decided = true;
  return shape.captured.shortest < shape.usual.shortest ? Graphs() : leave(shape);
}

CapturedGraphs::Graphs CapturedGraphs::leave(Shape& shape) {
  shape.is_decided = true;
  shape.is_captured = false;
  num_bytes_ -= std::exchange(shape.num_bytes, 0);
  return std::exchange(shape.idle, {});
}

c10::IValue CapturedGraphs::capture(Shape& shape, const torch::jit::Stack& inputs,
                                    const std::function<c10::IValue()>& run_as_usual) {
  std::unique_ptr<CapturedGraph> graph;
  c10::IValue output;
  try {
    output = CapturedGraph::capture(graph_, inputs, graph);
  } catch (...) {
    return run_as_usual();  // which throws it as ever
  }
  Graphs dropped;
  const std::lock_guard lock(mutex_);
  if (graph == nullptr) {
    dropped = leave(shape);
  } else if (shape.is_captured) {
    shape.num_bytes += graph->num_bytes();
    num_bytes_ += graph->num_bytes();
    shape.idle.push_back(std::move(graph));
  }
  return output;
}

size_t CapturedGraphs::num_bytes() const {
  const std::lock_guard lock(mutex_);
  return num_bytes_;
}

}  // namespace corestream
