#include "settled_shapes.h"

#include <ATen/autocast_mode.h>
#include <ATen/core/Dict.h>
#include <ATen/core/Tensor.h>
#include <ATen/core/grad_mode.h>
#include <c10/core/InferenceMode.h>

#include <chrono>

namespace corestream {
namespace {

// The run that profiles, and the one that compiles what was profiled.
constexpr int kRunsToSettle = 2;

// Many shapes that came once only must not pile up.
constexpr size_t kMostCounted = 4 * 8192;

// A large model compiles in seconds.
constexpr auto kLongestTurn = std::chrono::seconds(20);

class Hash {
 public:
  // 64-bit FNV-1a over whole words, with a rotation so that high bits matter.
  void add(uint64_t word) {
    value_ = (value_ ^ word) * 0x100000001b3ULL;
    value_ ^= value_ >> 29;
  }

  void add(const at::Tensor& tensor) {
    if (!tensor.defined()) return add(uint64_t{1});
    add(static_cast<uint64_t>(tensor.scalar_type()) << 8 | (tensor.requires_grad() ? 2 : 3));
    for (const int64_t size : tensor.sizes()) add(static_cast<uint64_t>(size));
    if (tensor.layout() != at::kStrided) return;
    for (const int64_t stride : tensor.strides()) add(static_cast<uint64_t>(stride));
  }

  void add(const c10::IValue& value) {
    if (value.isTensor()) return add(value.toTensor());
    if (value.isList()) {
      for (const c10::IValue& item : value.toListRef()) add(item);
    } else if (value.isTuple()) {
      for (const c10::IValue& item : value.toTupleRef().elements()) add(item);
    } else if (value.isGenericDict()) {
      for (const auto& entry : value.toGenericDict()) add(entry.value());
    }
    // Flags choose branches; other numbers may differ with every call and never settle.
    add(static_cast<uint64_t>(value.isNone() ? 4 : value.isBool() ? 6 + value.toBool() : 5));
  }

  uint64_t value() const { return value_ == 0 ? 1 : value_; }

 private:
  uint64_t value_ = 0xcbf29ce484222325ULL;
};

}  // namespace

uint64_t shape_signature(const torch::jit::Stack& inputs) {
  Hash hash;
  const bool autocast = at::autocast::is_autocast_enabled(at::kCPU);
  hash.add(uint64_t{at::GradMode::is_enabled()} << 2 | uint64_t{autocast} << 1 |
           uint64_t{c10::InferenceMode::is_enabled()});
  hash.add(static_cast<uint64_t>(at::autocast::get_autocast_dtype(at::kCPU)));
  for (const c10::IValue& input : inputs) hash.add(input);
  return hash.value();
}

bool SettledShapes::contains(uint64_t signature) const noexcept {
  for (size_t way = 0; way < kWays; ++way) {
    const auto& place = settled_[(signature + way) % kSlots];
    if (place.load(std::memory_order_acquire) == signature) return true;
  }
  return false;
}

SettledShapes::Turn SettledShapes::take_turn() { return Turn(turn_, kLongestTurn); }

void SettledShapes::count_run(uint64_t signature) {
  if (runs_.size() >= kMostCounted) runs_.clear();
  if (++runs_[signature] < kRunsToSettle) return;
  size_t way = 0;
  while (way + 1 < kWays && settled_[(signature + way) % kSlots] != 0) ++way;
  settled_[(signature + way) % kSlots].store(signature, std::memory_order_release);
}

}  // namespace corestream
