// A CPU allocator for torch that keeps the memory of freed tensors for the thread that freed them.
//
// glibc maps a tensor of more than 32 MiB anew at each allocation and, on threads other than the
// main one, gives smaller ones back to the kernel as well: each call of a model then takes a page
// fault for every 4 KiB of its activations. Kept memory has its pages.
#pragma once

#include <cstddef>
#include <cstdint>

namespace corestream {

struct TensorMemory {
  size_t limit_bytes = 0;  // what a thread may keep; 0: off
  size_t kept_bytes = 0;   // by all threads, now
  uint64_t reused = 0;     // allocations served from kept memory
  uint64_t made = 0;       // large allocations that were not
};

// Lets each thread keep up to `limit_bytes` of tensors of 64 KiB and more; 0 gives all back and
// keeps nothing from then on. Throws std::runtime_error if torch has another allocator installed.
//
// Every block is malloc's own and may be freed by anyone, so tensors made before the change and
// after it are freed alike. The allocator stays installed: oneDNN asks torch for the allocator of
// the day when it frees, and another one need not know these blocks.
void keep_tensor_memory(size_t limit_bytes);

// Gives all that is kept back to malloc; returns how many bytes.
size_t release_tensor_memory();

TensorMemory tensor_memory();

}  // namespace corestream
