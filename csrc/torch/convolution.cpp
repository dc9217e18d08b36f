#include "convolution.h"

#include <ATen/Functions.h>
#include <torch/library.h>

#include <algorithm>
#include <array>
#include <cstdint>

#include "convolution_team.h"
#include "operands.h"
#include "winograd.h"

namespace corestream {
namespace {

bool are_all(at::IntArrayRef sizes, int64_t at_least) {
  return std::all_of(sizes.begin(), sizes.end(), [&](int64_t size) { return size >= at_least; });
}

// By how many rows (dim 0) or columns (dim 1) the padded input, which has `size` without padding,
// is larger than the kernel.
template <typename Size>
Size room(const Size& size, const ConvolutionShape& shape, int64_t dim) {
  const int64_t reach = shape.dilation[dim] * (shape.weight[dim + 2] - 1) + 1;
  return size + 2 * shape.padding[dim] - reach;
}

template <typename Size>
Size output_size(const Size& size, const ConvolutionShape& shape, int64_t dim) {
  return room(size, shape, dim) / shape.stride[dim] + 1;
}

Convolution describe(const ImageSize& input, const ConvolutionShape& shape) {
  Convolution c{};
  c.batch = input[0];
  c.channels = c.input_pixel = input[1];
  c.height = input[2];
  c.width = input[3];
  c.out_channels = c.output_pixel = shape.weight[0];
  c.kernel_height = shape.weight[2];
  c.kernel_width = shape.weight[3];
  c.stride_height = shape.stride[0];
  c.stride_width = shape.stride[1];
  c.pad_height = shape.padding[0];
  c.pad_width = shape.padding[1];
  c.dilation_height = shape.dilation[0];
  c.dilation_width = shape.dilation[1];
  c.out_height = output_size(c.height, shape, 0);
  c.out_width = output_size(c.width, shape, 1);
  return c;
}

void check_shape(const ConvolutionShape& shape) {
  TORCH_CHECK(shape.weight.size() == 4 && shape.stride.size() == 2 && shape.padding.size() == 2 &&
                  shape.dilation.size() == 2 && are_all(shape.weight, 1) &&
                  are_all(shape.stride, 1) && are_all(shape.padding, 0) &&
                  are_all(shape.dilation, 1) && shape.groups >= 1,
              "sizes must be those of a Conv2d; got weight ", shape.weight, ", stride ",
              shape.stride, ", padding ", shape.padding, ", dilation ", shape.dilation,
              " and groups ", shape.groups, "; take them from the layer");
}

at::Tensor convolution_meta(const at::Tensor& input, const at::Tensor&,
                            const std::optional<at::Tensor>&, const std::optional<at::Tensor>&,
                            at::IntArrayRef weight_size, at::IntArrayRef stride,
                            at::IntArrayRef padding, at::IntArrayRef dilation, int64_t groups,
                            std::optional<double>, std::optional<double>) {
  const ConvolutionShape shape{weight_size, stride, padding, dilation, groups};
  return at::empty_symint(convolved_sym_size(input.sym_sizes(), shape), input.options(),
                          at::MemoryFormat::ChannelsLast);
}

auto& convolution_operator() {
  static const auto found = operator_named<decltype(convolution)>("corestream::convolution");
  return found;
}

at::Tensor convolution_autograd(const at::Tensor& input, const at::Tensor& packed,
                                const std::optional<at::Tensor>& bias,
                                const std::optional<at::Tensor>& residual,
                                at::IntArrayRef weight_size, at::IntArrayRef stride,
                                at::IntArrayRef padding, at::IntArrayRef dilation, int64_t groups,
                                std::optional<double> low, std::optional<double> high) {
  if (needs_gradient({input, bias, residual})) {
    const ConvolutionShape shape{weight_size, stride, padding, dilation, groups};
    const PackedConvolution layer{packed, bias, shape, low, high};
    check_convolution(input, layer, residual);
    return convolution_by_torch(input, layer, residual);
  }
  at::AutoDispatchBelowADInplaceOrView below;
  return convolution_operator().call(input, packed, bias, residual, weight_size, stride, padding,
                                     dilation, groups, low, high);
}

// The weight is packed in one dtype, which the input then has, whatever autocast made of it. That
// of a depthwise one goes with any.
at::Tensor convolution_autocast(const at::Tensor& input, const at::Tensor& packed,
                                const std::optional<at::Tensor>& bias,
                                const std::optional<at::Tensor>& residual,
                                at::IntArrayRef weight_size, at::IntArrayRef stride,
                                at::IntArrayRef padding, at::IntArrayRef dilation, int64_t groups,
                                std::optional<double> low, std::optional<double> high) {
  c10::impl::ExcludeDispatchKeyGuard no_autocast(c10::DispatchKey::AutocastCPU);
  const ConvolutionShape shape{weight_size, stride, padding, dilation, groups};
  check_shape(shape);
  const auto dtype = shape.is_depthwise() ? input.scalar_type() : packed.scalar_type();
  return convolution_operator().call(input.to(dtype), packed, bias, cast_to(residual, dtype),
                                     weight_size, stride, padding, dilation, groups, low, high);
}

}  // namespace

bool has_convolution_kernel(at::ScalarType dtype, const ConvolutionShape& shape) {
  check_shape(shape);
  const int64_t height = shape.weight[2], width = shape.weight[3];
  if (!convolution_kernel(dtype, shape.is_depthwise()) || height * width > kMostTaps) return false;
  if (shape.is_depthwise()) {
    return height == width && has_depthwise_kernel(height, shape.stride[0]) &&
           shape.stride[0] == shape.stride[1] && shape.dilation[0] == 1 && shape.dilation[1] == 1;
  }
  const bool has_few_channels = shape.weight[1] < kFewChannels;
  return shape.groups == 1 &&
         !(has_few_channels && (shape.dilation[1] != 1 || height > 7 || width > 7));
}

at::Tensor convolution_by_torch(const at::Tensor& input, const PackedConvolution& layer,
                                const std::optional<at::Tensor>& residual) {
  const ConvolutionShape& shape = layer.shape;
  const at::Tensor weight =
      unpack_convolution(layer.packed, shape.weight, shape.groups, input.scalar_type());
  std::optional<at::Tensor> added;
  if (is_given(layer.bias)) added = layer.bias->to(input.scalar_type());
  at::Tensor result =
      at::conv2d(input, weight, added, shape.stride, shape.padding, shape.dilation, shape.groups);
  if (is_given(residual)) result = result + *residual;
  return limited(result, layer.low, layer.high).contiguous(at::MemoryFormat::ChannelsLast);
}

ImageSize image_size(const at::Tensor& image) {
  TORCH_CHECK(image.dim() == 4, "input must have 4 dims; got ", image.dim(),
              "; pass (batch, channels, height, width)");
  return {image.size(0), image.size(1), image.size(2), image.size(3)};
}

ImageSize convolved_size(const ImageSize& input, const ConvolutionShape& shape) {
  const Convolution c = describe(input, shape);
  return {c.batch, c.out_channels, c.out_height, c.out_width};
}

c10::SymDimVector convolved_sym_size(c10::SymIntArrayRef input, const ConvolutionShape& shape) {
  check_shape(shape);
  TORCH_CHECK(input.size() == 4, "input must have 4 dims; got ", input.size(),
              "; pass (batch, channels, height, width)");
  TORCH_SYM_CHECK(input[1].sym_eq(shape.weight[1] * shape.groups), "input must have ",
                  shape.weight[1] * shape.groups, " channels; got ", input[1],
                  "; pass what the layer takes");
  return {input[0], shape.weight[0], output_size(input[2], shape, 0),
          output_size(input[3], shape, 1)};
}

void check_convolution(const ImageSize& input, at::ScalarType dtype,
                       const PackedConvolution& layer) {
  const ConvolutionShape& shape = layer.shape;
  check_shape(shape);
  TORCH_CHECK(input[1] == shape.weight[1] * shape.groups, "input must have ",
              shape.weight[1] * shape.groups, " channels; got ", input[1],
              "; pass what the layer takes");
  check_packed(layer.packed, layer.bias, shape.weight, shape.groups, dtype);
  TORCH_CHECK(!is_winograd(layer.packed) || has_winograd_form(shape),
              "stride and dilation must be 1 for a weight in Winograd's form; got ", shape.stride,
              " and ", shape.dilation, "; use pack_convolution");
  TORCH_CHECK(room(input[2], shape, 0) >= 0 && room(input[3], shape, 1) >= 0,
              "input must be as large as the kernel; got ", at::IntArrayRef(input), "; pad it");
}

void check_convolution(const at::Tensor& input, const PackedConvolution& layer,
                       const std::optional<at::Tensor>& residual) {
  check_convolution(image_size(input), input.scalar_type(), layer);
  check_residual(residual, convolved_size(image_size(input), layer.shape), input.scalar_type());
}

bool runs_here(const PackedConvolution& layer, at::ScalarType dtype) {
  const bool has_kernel = is_winograd(layer.packed) ? has_winograd_kernel(dtype, layer.shape)
                                                    : has_convolution_kernel(dtype, layer.shape);
  return has_kernel && is_packed_here(layer.packed, dtype, layer.shape.is_depthwise());
}

Convolution describe_layer(const ImageSize& input, const PackedConvolution& layer) {
  // A tensor of them, made anew, takes as long as a small layer's call.
  alignas(64) static constexpr float kZeros[4096] = {};
  Convolution c = describe(input, layer.shape);
  c.weight = layer.packed.const_data_ptr();
  c.low = low_limit(layer.low);
  c.high = high_limit(layer.high);
  if (is_given(layer.bias)) c.bias = layer.bias->const_data_ptr<float>();
  const auto room = static_cast<int64_t>(sizeof(kZeros) / sizeof(float));
  if (run_length(c.channels, c.kernel_width) <= room) c.zeros = kZeros;
  return c;
}

at::Tensor set_input(Convolution& c, const at::Tensor& input) {
  at::Tensor image = with_plain_pixels(input);
  if (c.has_few_channels() && image.stride(3) != image.size(1)) {
    image = with_plain_pixels(image.clone(at::MemoryFormat::ChannelsLast));
  }
  c.input = image.const_data_ptr();
  c.input_pixel = image.stride(3);
  return image;
}

at::Tensor set_residual(Convolution& c, const std::optional<at::Tensor>& residual) {
  if (!is_given(residual)) return {};
  const at::Tensor added = with_plain_pixels(*residual);
  c.residual = added.const_data_ptr();
  c.residual_pixel = added.stride(3);
  return added;
}

bool lacks_zeros(const Convolution& c, const PackedConvolution& layer) {
  // Tiles of Winograd's reach beyond the image's end, as rows of depthwise kernels do.
  const bool reads_beyond = layer.shape.is_depthwise() || is_winograd(layer.packed);
  return c.zeros == nullptr && (reads_beyond || c.pad_height > 0 || c.pad_width > 0);
}

void convolve_into(const at::Tensor& output, int64_t first_channel, const at::Tensor& input,
                   const PackedConvolution& layer, const std::optional<at::Tensor>& residual) {
  if (output.numel() == 0) return;
  const ConvolutionShape& shape = layer.shape;
  if (!runs_here(layer, input.scalar_type())) {
    output.narrow(1, first_channel, shape.weight[0])
        .copy_(convolution_by_torch(input, layer, residual));
    return;
  }
  Convolution c = describe_layer(image_size(input), layer);
  const at::Tensor image = set_input(c, input), added = set_residual(c, residual);
  c.output = static_cast<char*>(output.data_ptr()) + first_channel * output.element_size();
  c.output_pixel = output.stride(3);
  at::Tensor zeros;
  if (lacks_zeros(c, layer)) {
    zeros = at::zeros({run_length(c.channels, c.kernel_width)}, input.options());
    c.zeros = zeros.const_data_ptr();
  }
  if (is_winograd(layer.packed)) return run_winograd(c, layer.packed.size(0));
  run_convolution(c, input.scalar_type(), shape.is_depthwise());
}

at::Tensor convolution(const at::Tensor& input, const at::Tensor& packed,
                       const std::optional<at::Tensor>& bias,
                       const std::optional<at::Tensor>& residual, at::IntArrayRef weight_size,
                       at::IntArrayRef stride, at::IntArrayRef padding, at::IntArrayRef dilation,
                       int64_t groups, std::optional<double> low, std::optional<double> high) {
  const ConvolutionShape shape{weight_size, stride, padding, dilation, groups};
  const PackedConvolution layer{packed, bias, shape, low, high};
  check_convolution(input, layer, residual);
  at::Tensor output = new_tensor(convolved_size(image_size(input), shape), input.options(),
                                 at::MemoryFormat::ChannelsLast);
  convolve_into(output, /*first_channel=*/0, input, layer, residual);
  return output;
}

}  // namespace corestream

TORCH_LIBRARY_FRAGMENT(corestream, library) {
  library.def(
      "convolution(Tensor input, Tensor packed, Tensor? bias, Tensor? residual, int[] weight_size, "
      "int[] stride, int[] padding, int[] dilation, int groups, float? low, float? high) -> Tensor",
      {at::Tag::pt2_compliant_tag});
  library.def("pack_convolution(Tensor weight, int groups) -> Tensor");
  library.def("pack_winograd(Tensor weight, int tile) -> Tensor");
}
TORCH_LIBRARY_IMPL(corestream, CPU, library) {
  library.impl("convolution", TORCH_FN(corestream::convolution));
  library.impl("pack_convolution", TORCH_FN(corestream::pack_convolution));
  library.impl("pack_winograd", TORCH_FN(corestream::pack_winograd));
}
TORCH_LIBRARY_IMPL(corestream, Meta, library) {
  library.impl("convolution", TORCH_FN(corestream::convolution_meta));
}
TORCH_LIBRARY_IMPL(corestream, Autograd, library) {
  library.impl("convolution", TORCH_FN(corestream::convolution_autograd));
}
TORCH_LIBRARY_IMPL(corestream, AutocastCPU, library) {
  library.impl("convolution", TORCH_FN(corestream::convolution_autocast));
}
