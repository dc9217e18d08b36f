// What the operators of this folder do with their arguments alike.
#pragma once

#include <ATen/Functions.h>
#include <ATen/core/dispatch/Dispatcher.h>

#include <algorithm>
#include <initializer_list>
#include <limits>
#include <optional>

#include "capture.h"

namespace corestream {

// Absent limits are not infinite in an operator's arguments: what AOTInductor writes of its calls
// is JSON, which has no infinity.
inline float low_limit(std::optional<double> low) {
  return static_cast<float>(low.value_or(-std::numeric_limits<double>::infinity()));
}
inline float high_limit(std::optional<double> high) {
  return static_cast<float>(high.value_or(std::numeric_limits<double>::infinity()));
}
inline at::Tensor limited(const at::Tensor& values, std::optional<double> low,
                          std::optional<double> high) {
  if (!low.has_value() && !high.has_value()) return values;
  const auto scalar = [](std::optional<double> limit) {
    return limit.has_value() ? std::optional<at::Scalar>(*limit) : std::nullopt;
  };
  return at::clamp(values, scalar(low), scalar(high));
}

inline bool is_given(const std::optional<at::Tensor>& tensor) {
  return tensor.has_value() && tensor->defined();
}
inline std::optional<at::Tensor> cast_to(const std::optional<at::Tensor>& tensor,
                                         c10::ScalarType dtype) {
  return is_given(tensor) ? std::optional<at::Tensor>(tensor->to(dtype)) : std::nullopt;
}
// As the dispatcher has it, for a kernel that hands over to the next.
template <typename Function>
c10::TypedOperatorHandle<Function> operator_named(const char* name) {
  return c10::Dispatcher::singleton().findSchemaOrThrow(name, "").typed<Function>();
}

// An operator's output or workspace, in the memory of the graph that is being captured if one is.
inline at::Tensor new_tensor(at::IntArrayRef sizes, const at::TensorOptions& options,
                             at::MemoryFormat format = at::MemoryFormat::Contiguous) {
  if (Capture* capture = Capture::current()) return capture->new_tensor(sizes, options, format);
  return at::empty(sizes, options, format);
}
// The same for one of which perhaps only the shape is known.
inline at::Tensor new_tensor_symint(c10::SymIntArrayRef sizes, const at::TensorOptions& options,
                                    at::MemoryFormat format = at::MemoryFormat::Contiguous) {
  const auto known = c10::asIntArrayRefSlowOpt(sizes);
  if (known && Capture::current() != nullptr) return new_tensor(*known, options, format);
  return at::empty_symint(sizes, options, format);
}

inline bool needs_gradient(std::initializer_list<std::optional<at::Tensor>> tensors) {
  return at::GradMode::is_enabled() &&
         std::any_of(tensors.begin(), tensors.end(), [](const std::optional<at::Tensor>& tensor) {
           return is_given(tensor) && tensor->requires_grad();
         });
}

// The last dim's elements adjacent; bf16, which is read in pairs, an even number of elements apart.
inline at::Tensor with_plain_rows(const at::Tensor& tensor) {
  const bool may_be_odd = tensor.scalar_type() != at::kBFloat16;
  for (int64_t dim = 0; dim + 1 < tensor.dim(); ++dim) {
    if (!may_be_odd && tensor.stride(dim) % 2 != 0) return tensor.contiguous();
  }
  return tensor.stride(-1) == 1 ? tensor : tensor.contiguous();
}

// Channels next to each other, pixels at one distance: a slice of channels is so.
inline at::Tensor with_plain_pixels(const at::Tensor& image) {
  const int64_t channels = image.size(1), pixels = image.size(2) * image.size(3);
  const bool is_one = pixels == 1;  // whose stride says nothing
  const int64_t pixel = is_one ? image.stride(0) : image.stride(3);
  const auto strided = [&](const at::Tensor& source, int64_t step) {
    return source.as_strided(image.sizes(), {step * pixels, 1, step * image.size(3), step});
  };
  const bool is_plain =
      image.stride(1) == 1 && pixel >= channels &&
      (is_one || (image.stride(2) == pixel * image.size(3) && image.stride(0) == pixel * pixels));
  if (is_plain) return is_one ? strided(image, pixel) : image;
  return strided(image.clone(at::MemoryFormat::ChannelsLast), channels);
}

inline void check_residual(const std::optional<at::Tensor>& residual, at::IntArrayRef sizes,
                           c10::ScalarType dtype) {
  TORCH_CHECK(
      !is_given(residual) || (residual->sizes() == sizes && residual->scalar_type() == dtype),
      "residual must be as the output, ", sizes, " in ", dtype, "; got ", residual->sizes(), " in ",
      residual->scalar_type(), "; expand or cast it");
}

}  // namespace corestream
