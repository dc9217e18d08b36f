// torch.ops.corestream.linear: a linear layer with what follows it.
#pragma once

#include <ATen/core/Tensor.h>

#include <optional>

namespace corestream {

// clamp(gelu(input weight^T + bias + residual)), gelu where asked for. The weight is packed as that
// of a convolution of one tap; the bias is float32.
at::Tensor linear(const at::Tensor& input, const at::Tensor& packed,
                  const std::optional<at::Tensor>& bias, const std::optional<at::Tensor>& residual,
                  int64_t out_features, bool gelu, std::optional<double> low,
                  std::optional<double> high);

}  // namespace corestream
