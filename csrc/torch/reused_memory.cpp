#include "reused_memory.h"

#include <ATen/EmptyTensor.h>
#include <ATen/ops/from_blob.h>
#include <c10/core/CPUAllocator.h>

#include <algorithm>
#include <iterator>

namespace corestream {

namespace {

// Of a cache line, so that no two tensors share one.
constexpr size_t kUnit = 64;
// Taken from the system at a time.
constexpr size_t kLeast = size_t{1} << 20;

}  // namespace

// From the smallest free place that is large enough.
char* ReusedMemory::take(size_t size) {
  const std::lock_guard lock(mutex_);
  auto best = free_.end();
  for (auto place = free_.begin(); place != free_.end(); ++place) {
    if (place->second >= size && (best == free_.end() || place->second < best->second))
      best = place;
  }
  if (best == free_.end()) {
    const size_t fresh = std::max(size, kLeast);
    memory_.push_back(c10::GetCPUAllocator()->allocate(fresh));
    num_bytes_ += fresh;
    best = free_.emplace(static_cast<char*>(memory_.back().get()), fresh).first;
  }
  const auto [start, room] = *best;
  free_.erase(best);
  if (room > size) free_.emplace(start + size, room - size);
  return start;
}

void ReusedMemory::give_back(char* start, size_t size) {
  const std::lock_guard lock(mutex_);
  const auto after = free_.find(start + size);
  if (after != free_.end()) {
    size += after->second;
    free_.erase(after);
  }
  const auto place = free_.emplace(start, size).first;
  if (place == free_.begin()) return;
  const auto before = std::prev(place);
  if (before->first + before->second != start) return;
  before->second += size;
  free_.erase(place);
}

at::Tensor ReusedMemory::new_tensor(at::IntArrayRef sizes, at::IntArrayRef strides,
                                    const at::TensorOptions& options) {
  const size_t bytes = at::detail::computeStorageNbytes(sizes, strides, options.dtype().itemsize());
  const size_t room = std::max<size_t>(1, (bytes + kUnit - 1) / kUnit) * kUnit;
  char* const start = take(room);
  const auto free = [self = shared_from_this(), room](void* memory) {
    self->give_back(static_cast<char*>(memory), room);
  };
  return at::from_blob(start, sizes, strides, free, options);
}

}  // namespace corestream
