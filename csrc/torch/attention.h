// torch.ops.corestream.attention: attention for inference, on the CPU.
#pragma once

#include <ATen/core/Tensor.h>

#include <optional>

namespace corestream {

// softmax(query key^T * scale + mask) value, all of shape (batch, heads, rows, head size); a mask
// of bools says what counts, others are added. What there is no kernel for, torch computes; the
// operator leaves to it what needs a gradient, too, and follows autocast. No scale: one over the
// root of the head size.
at::Tensor attention(const at::Tensor& query, const at::Tensor& key, const at::Tensor& value,
                     const std::optional<at::Tensor>& mask, std::optional<double> scale);

// Whether a kernel of ours runs such tensors on this CPU.
bool has_attention_kernel(at::ScalarType dtype, int64_t head_size, int64_t num_keys);

}  // namespace corestream
