// torch.ops.corestream.joined_convolutions: the concatenation of convolutions, which write into it.
#include <ATen/Functions.h>
#include <torch/library.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <optional>
#include <vector>

#include "convolution.h"
#include "operands.h"

namespace corestream {
namespace {

// Numbers of a part in `shapes`: of the weight 4, stride, padding and dilation 2 each, the groups.
constexpr size_t kSizes = 11;

// An image, or a convolution of it.
struct Part {
  at::Tensor input, packed;
  std::optional<at::Tensor> bias;
  ConvolutionShape shape;
  std::optional<double> low, high;

  bool is_plain() const { return packed.numel() == 0; }

  c10::SymInt channels() const {
    return is_plain() ? input.sym_size(1) : c10::SymInt(shape.weight[0]);
  }
  at::Tensor by_torch() const {
    if (is_plain()) return input;
    return convolution_by_torch(input, packed, bias, std::nullopt, shape, low, high);
  }
};

std::optional<double> limit(double value) {
  return std::isinf(value) ? std::nullopt : std::optional<double>(value);
}

std::vector<Part> parts_of(at::TensorList inputs, at::TensorList packed, at::TensorList biases,
                           at::IntArrayRef shapes, at::ArrayRef<double> limits) {
  const size_t count = inputs.size();
  TORCH_CHECK(count >= 1 && packed.size() == count && biases.size() == count &&
                  shapes.size() == kSizes * count && limits.size() == 2 * count,
              "there must be a weight, a bias, ", kSizes,
              " sizes and 2 limits for each input; got ", count, " inputs, ", packed.size(), ", ",
              biases.size(), ", ", shapes.size(), " and ", limits.size(),
              "; call corestream.ops.joined_convolutions");
  std::vector<Part> parts;
  parts.reserve(count);
  for (size_t i = 0; i < count; ++i) {
    const auto sizes = shapes.slice(kSizes * i, kSizes);
    const ConvolutionShape shape{sizes.slice(0, 4), sizes.slice(4, 2), sizes.slice(6, 2),
                                 sizes.slice(8, 2), sizes[10]};
    TORCH_CHECK(inputs[i].dim() == 4, "inputs must have 4 dims; got ", inputs[i].dim(),
                "; pass (batch, channels, height, width)");
    std::optional<at::Tensor> bias;
    if (biases[i].numel() > 0) bias = biases[i];
    parts.push_back(
        {inputs[i], packed[i], bias, shape, limit(limits[2 * i]), limit(limits[2 * i + 1])});
  }
  return parts;
}

bool has_gradient(const std::vector<Part>& parts) {
  return std::any_of(parts.begin(), parts.end(),
                     [](const Part& part) { return needs_gradient({part.input, part.bias}); });
}

std::array<int64_t, 4> size_of(const Part& part) {
  if (!part.is_plain()) return convolved_size(part.input, part.shape);
  const auto sizes = part.input.sizes();
  return {sizes[0], sizes[1], sizes[2], sizes[3]};
}

// What all of it have, but for the channels, which are summed.
std::array<int64_t, 4> joined_size(const std::vector<Part>& parts) {
  std::array<int64_t, 4> joined = size_of(parts[0]);
  joined[1] = 0;
  for (const Part& part : parts) {
    TORCH_CHECK(part.input.scalar_type() == parts[0].input.scalar_type(),
                "inputs must have one dtype; got ", parts[0].input.scalar_type(), " and ",
                part.input.scalar_type(), "; cast them");
    std::array<int64_t, 4> size = size_of(part);
    joined[1] += size[1];
    size[1] = joined[1];
    TORCH_CHECK(size == joined, "parts must have one batch, height and width; got ",
                at::IntArrayRef(joined), " and ", at::IntArrayRef(size),
                "; pad or crop the inputs");
  }
  return joined;
}

void check(const std::vector<Part>& parts) {
  for (const Part& part : parts) {
    if (part.is_plain()) continue;
    check_convolution(part.input, part.packed, part.bias, std::nullopt, part.shape);
  }
}

at::Tensor joined_by_torch(const std::vector<Part>& parts) {
  std::vector<at::Tensor> results;
  results.reserve(parts.size());
  for (const Part& part : parts) results.push_back(part.by_torch());
  return at::cat(results, 1).contiguous(at::MemoryFormat::ChannelsLast);
}

at::Tensor joined_convolutions(at::TensorList inputs, at::TensorList packed, at::TensorList biases,
                               at::IntArrayRef shapes, at::ArrayRef<double> limits) {
  const std::vector<Part> parts = parts_of(inputs, packed, biases, shapes, limits);
  check(parts);
  at::Tensor output =
      at::empty(joined_size(parts), inputs[0].options(), at::MemoryFormat::ChannelsLast);
  int64_t first = 0;
  for (const Part& part : parts) {
    const int64_t channels = size_of(part)[1];
    const at::Tensor slice = output.narrow(1, first, channels);
    first += channels;
    if (part.is_plain()) {
      slice.copy_(part.input);
    } else {
      convolve_into(slice, part.input, part.packed, part.bias, std::nullopt, part.shape, part.low,
                    part.high);
    }
  }
  return output;
}

auto& joined_operator() {
  static const auto found = c10::Dispatcher::singleton()
                                .findSchemaOrThrow("corestream::joined_convolutions", "")
                                .typed<decltype(joined_convolutions)>();
  return found;
}

at::Tensor joined_convolutions_autograd(at::TensorList inputs, at::TensorList packed,
                                        at::TensorList biases, at::IntArrayRef shapes,
                                        at::ArrayRef<double> limits) {
  const std::vector<Part> parts = parts_of(inputs, packed, biases, shapes, limits);
  if (has_gradient(parts)) {
    check(parts);
    joined_size(parts);
    return joined_by_torch(parts);
  }
  at::AutoDispatchBelowADInplaceOrView below;
  return joined_operator().call(inputs, packed, biases, shapes, limits);
}

// Weights are packed in one dtype, which the inputs then have, whatever autocast made of them.
at::Tensor joined_convolutions_autocast(at::TensorList inputs, at::TensorList packed,
                                        at::TensorList biases, at::IntArrayRef shapes,
                                        at::ArrayRef<double> limits) {
  c10::impl::ExcludeDispatchKeyGuard no_autocast(c10::DispatchKey::AutocastCPU);
  at::ScalarType dtype = inputs[0].scalar_type();
  for (const Part& part : parts_of(inputs, packed, biases, shapes, limits)) {
    if (!part.is_plain() && !part.shape.is_depthwise()) dtype = part.packed.scalar_type();
  }
  std::vector<at::Tensor> cast;
  cast.reserve(inputs.size());
  for (const at::Tensor& input : inputs) cast.push_back(input.to(dtype));
  return joined_operator().call(cast, packed, biases, shapes, limits);
}

at::Tensor joined_convolutions_meta(at::TensorList inputs, at::TensorList packed,
                                    at::TensorList biases, at::IntArrayRef shapes,
                                    at::ArrayRef<double> limits) {
  c10::SymInt channels = 0;
  c10::SymDimVector sizes;
  for (const Part& part : parts_of(inputs, packed, biases, shapes, limits)) {
    channels += part.channels();
    if (!sizes.empty()) continue;
    sizes = part.is_plain() ? c10::SymDimVector(part.input.sym_sizes())
                            : convolved_sym_size(part.input, part.shape);
  }
  sizes[1] = channels;
  return at::empty_symint(sizes, inputs[0].options(), at::MemoryFormat::ChannelsLast);
}

}  // namespace
}  // namespace corestream

TORCH_LIBRARY_FRAGMENT(corestream, library) {
  library.def(
      "joined_convolutions(Tensor[] inputs, Tensor[] packed, Tensor[] biases, int[] shapes, "
      "float[] limits) -> Tensor",
      {at::Tag::pt2_compliant_tag});
}
TORCH_LIBRARY_IMPL(corestream, CPU, library) {
  library.impl("joined_convolutions", TORCH_FN(corestream::joined_convolutions));
}
TORCH_LIBRARY_IMPL(corestream, Meta, library) {
  library.impl("joined_convolutions", TORCH_FN(corestream::joined_convolutions_meta));
}
TORCH_LIBRARY_IMPL(corestream, AutocastCPU, library) {
  library.impl("joined_convolutions", TORCH_FN(corestream::joined_convolutions_autocast));
}
TORCH_LIBRARY_IMPL(corestream, Autograd, library) {
  library.impl("joined_convolutions", TORCH_FN(corestream::joined_convolutions_autograd));
}
