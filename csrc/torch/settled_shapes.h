// Which input shapes a TorchScript executor has finished specialising for.
//
// TorchScript profiles the first run of each new shape and compiles for what it saw. If two
// threads profile one executor at once with different shapes, the merged profile has unknown
// sizes, and oneDNN's fused kernels, compiled for one of them, then run the other: outputs with
// rows missing (torch 2.13, csrc/jit/codegen/onednn). So the runs that profile and compile take
// turns; all later ones run side by side.
#pragma once

#include <ATen/core/stack.h>

#include <array>
#include <atomic>
#include <cstdint>
#include <mutex>
#include <unordered_map>

namespace corestream {

// Of the tensors' dtypes, sizes and strides, the containers they are in, and the thread's modes
// that choose another plan. Never 0.
uint64_t shape_signature(const torch::jit::Stack& inputs);

class SettledShapes {
 public:
  bool contains(uint64_t signature) const noexcept;

  // Held around a run whose signature is not settled.
  using Turn = std::unique_lock<std::timed_mutex>;

  // Waits for its turn, but not for ever: a model that waits for another call of itself, in an
  // operator written in Python, would hold the turn that the other needs.
  Turn take_turn();

  // Requires: a turn. After a run that returned.
  void count_run(uint64_t signature);

 private:
  static constexpr size_t kSlots = 8192, kWays = 8;

  std::timed_mutex turn_;
  std::unordered_map<uint64_t, int> runs_;
  // Read without a lock on every call; a signature whose places are all taken replaces another,
  // which then takes turns once more.
  std::array<std::atomic<uint64_t>, kSlots> settled_{};
};

}  // namespace corestream
