// A pooling divided among the calling thread's team.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

#include "pool_kernel.h"

namespace corestream {

// Null where this CPU has none for the dtype.
PoolKernel pool_kernel(c10::ScalarType dtype);

// Refuses what is no batch of images; the batch may be empty.
void check_image(const at::Tensor& input);

// A pool without its windows. The image has plain pixels, and one of its output is dense.
Pool pool_between(const at::Tensor& image, const at::Tensor& output);

// The windows of `batch` images.
void run_pool(const Pool& pool, PoolKernel kernel, int64_t batch);

// The same for windows that each are an image, whose channels are divided among members.
void run_mean(const Pool& pool, c10::ScalarType dtype, int64_t batch);

}  // namespace corestream
