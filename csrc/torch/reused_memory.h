// Memory of the tensors that come and go while a graph is captured. What one of them gives back the
// next one gets, as the same pieces of work do when they run again: so the memory that is kept is
// that of the tensors that are alive at a time, and is in the caches.
#pragma once

#include <ATen/core/Tensor.h>

#include <map>
#include <memory>
#include <mutex>
#include <vector>

namespace corestream {

// Any thread; its tensors keep it alive.
class ReusedMemory : public std::enable_shared_from_this<ReusedMemory> {
 public:
  at::Tensor new_tensor(at::IntArrayRef sizes, at::IntArrayRef strides,
                        const at::TensorOptions& options);

  size_t num_bytes() const { return num_bytes_; }

 private:
  char* take(size_t size);
  void give_back(char* start, size_t size);

  std::mutex mutex_;
  std::vector<at::DataPtr> memory_;
  // What nobody has, by where it starts. Neighbours are one.
  std::map<char*, size_t> free_;
  size_t num_bytes_ = 0;
};

}  // namespace corestream
