// torch.ops.corestream.convolution: a convolution of channels-last images with what follows it.
#pragma once

#include <ATen/core/Tensor.h>

#include <array>
#include <optional>

#include "convolution_kernel.h"

namespace corestream {

// Of a weight of that size, one output channel for each input channel.
inline bool is_depthwise(at::IntArrayRef weight_size, int64_t groups) {
  return groups > 1 && weight_size[1] == 1 && weight_size[0] == groups;
}

// What a convolution is but for its tensors: sizes as those of conv2d.
struct ConvolutionShape {
  at::IntArrayRef weight;  // (output channels, input channels of a group, height, width)
  at::IntArrayRef stride, padding, dilation;
  int64_t groups;

  bool is_depthwise() const { return corestream::is_depthwise(weight, groups); }
};

// Whether a kernel of ours runs such a convolution on this CPU. It then takes the weights that
// pack_convolution makes of those of conv2d.
bool has_convolution_kernel(at::ScalarType dtype, const ConvolutionShape& shape);
at::Tensor pack_convolution(const at::Tensor& weight, int64_t groups);

// Whether this CPU has a kernel that reads what was packed: each has its panels' width.
bool is_packed_here(const at::Tensor& packed, at::ScalarType dtype, bool is_depthwise);

// Refuses what pack_convolution does not make of such a weight, and a bias that is not float32.
void check_packed(const at::Tensor& packed, const std::optional<at::Tensor>& bias,
                  at::IntArrayRef weight_size, int64_t groups, at::ScalarType dtype);

// The reverse of pack_convolution, on any CPU, for one without the kernel.
at::Tensor unpack_convolution(const at::Tensor& packed, at::IntArrayRef weight_size, int64_t groups,
                              at::ScalarType dtype);

// A convolution with limits, but for its images. The bias is float32.
struct PackedConvolution {
  at::Tensor packed;
  std::optional<at::Tensor> bias;
  ConvolutionShape shape;
  std::optional<double> low, high;
};

// (batch, channels, height, width).
using ImageSize = std::array<int64_t, 4>;

// What comes out.
ImageSize convolved_size(const ImageSize& input, const ConvolutionShape& shape);
c10::SymDimVector convolved_sym_size(c10::SymIntArrayRef input, const ConvolutionShape& shape);

ImageSize image_size(const at::Tensor& image);

// Refuses what does not fit together.
void check_convolution(const ImageSize& input, at::ScalarType dtype,
                       const PackedConvolution& layer);
void check_convolution(const at::Tensor& input, const PackedConvolution& layer,
                       const std::optional<at::Tensor>& residual);

// Whether this CPU has a kernel for such a layer, and reads what was packed.
bool runs_here(const PackedConvolution& layer, at::ScalarType dtype);

// What a kernel needs to know of a layer but for its images, whose pixels it takes for dense. Zeros
// are null where runs are longer than there are zeros at hand.
Convolution describe_layer(const ImageSize& input, const PackedConvolution& layer);

// What it reads, as kernels do: channels last, pixels at one distance, few channels without gaps.
// The tensor returned, which may be a copy, holds the memory.
at::Tensor set_input(Convolution& c, const at::Tensor& input);
at::Tensor set_residual(Convolution& c, const std::optional<at::Tensor>& residual);

// Whether it reads what lies outside of the image, and has no zeros for it.
bool lacks_zeros(const Convolution& c, const PackedConvolution& layer);

// convolution() of operands that were checked, into channels of a channels-last image, the first of
// which is given.
void convolve_into(const at::Tensor& output, int64_t first_channel, const at::Tensor& input,
                   const PackedConvolution& layer, const std::optional<at::Tensor>& residual);

// The same from torch's operators, which have gradients.
at::Tensor convolution_by_torch(const at::Tensor& input, const PackedConvolution& layer,
                                const std::optional<at::Tensor>& residual);

// min(max(conv2d(input) + residual, low), high), channels last. The bias is float32.
at::Tensor convolution(const at::Tensor& input, const at::Tensor& packed,
                       const std::optional<at::Tensor>& bias,
                       const std::optional<at::Tensor>& residual, at::IntArrayRef weight_size,
                       at::IntArrayRef stride, at::IntArrayRef padding, at::IntArrayRef dilation,
                       int64_t groups, std::optional<double> low, std::optional<double> high);

}  // namespace corestream
