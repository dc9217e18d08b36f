// torch.ops.corestream.joined_convolutions: the concatenation of convolutions, which write into it.
#include <ATen/Functions.h>
#include <torch/library.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <optional>
#include <vector>

#include "convolution.h"
#include "encoded_convolutions.h"
#include "operands.h"
#include "team_shares.h"

namespace corestream {
namespace {

// An image, or a convolution of it.
struct Part {
  at::Tensor input;
  std::optional<PackedConvolution> layer;

  c10::SymDimVector size() const {
    const c10::SymIntArrayRef given = input.sym_sizes();
    return layer ? convolved_sym_size(given, layer->shape) : c10::SymDimVector(given);
  }
  void check() const {
    if (layer) check_convolution(input, *layer, std::nullopt);
  }
  at::Tensor by_torch() const {
    return layer ? convolution_by_torch(input, *layer, std::nullopt) : input;
  }
  // By an operator of its own, whatever its tensors are: without data, or in need of a gradient.
  at::Tensor alone() const {
    static const auto op = operator_named<decltype(convolution)>("corestream::convolution");
    if (!layer) return input;
    const ConvolutionShape& shape = layer->shape;
    return op.call(input, layer->packed, layer->bias, std::nullopt, shape.weight, shape.stride,
                   shape.padding, shape.dilation, shape.groups, layer->low, layer->high);
  }
};

using Parts = std::vector<Part>;

Parts parts_of(at::TensorList inputs, at::TensorList packed, at::TensorList biases,
               at::IntArrayRef shapes, at::ArrayRef<double> limits) {
  TORCH_CHECK(inputs.size() == packed.size(), "there must be a weight for each input; got ",
              inputs.size(), " inputs and ", packed.size(),
              " weights; call corestream.ops.joined_convolutions");
  const auto layers = decode_convolutions(packed, biases, shapes, limits);
  Parts parts;
  parts.reserve(inputs.size());
  for (size_t i = 0; i < inputs.size(); ++i) {
    TORCH_CHECK(inputs[i].dim() == 4, "inputs must have 4 dims; got ", inputs[i].dim(),
                "; pass (batch, channels, height, width)");
    parts.push_back({inputs[i], layers[i]});
  }
  return parts;
}

bool has_gradient(const Parts& parts) {
  return std::any_of(parts.begin(), parts.end(), [](const Part& part) {
    return needs_gradient({part.input, part.layer ? part.layer->bias : std::nullopt});
  });
}

// Also where only shapes are known.
c10::SymDimVector joined_size(const Parts& parts) {
  const c10::SymDimVector first = parts[0].size();
  c10::SymDimVector joined = first;
  joined[1] = 0;
  for (const Part& part : parts) {
    TORCH_CHECK(part.input.scalar_type() == parts[0].input.scalar_type(),
                "inputs must have one dtype; got ", parts[0].input.scalar_type(), " and ",
                part.input.scalar_type(), "; cast them");
    const c10::SymDimVector size = part.size();
    for (const int64_t dim : {0, 2, 3}) {
      TORCH_SYM_CHECK(size[dim].sym_eq(first[dim]),
                      "parts must have one batch, height and width; got ",
                      c10::SymIntArrayRef(first), " and ", c10::SymIntArrayRef(size),
                      "; pad or crop the inputs");
    }
    joined[1] += size[1];
  }
  return joined;
}

at::Tensor empty_joined(const Parts& parts) {
  return new_tensor_symint(joined_size(parts), parts[0].input.options(),
                           at::MemoryFormat::ChannelsLast);
}

at::Tensor joined(const std::vector<at::Tensor>& results) {
  return at::cat(results, 1).contiguous(at::MemoryFormat::ChannelsLast);
}

// Sizes in bytes.
struct CopyWork {
  const char* input;
  char* output;
  size_t size;
  int64_t input_pixel, output_pixel, pixels;
  int members;
};

// An image into channels of a channels-last one, the first of which is given.
void copy_into(const at::Tensor& output, int64_t first_channel, const at::Tensor& input) {
  if (input.numel() == 0) return;
  const at::Tensor image = with_plain_pixels(input);
  const auto element = static_cast<int64_t>(image.element_size());
  CopyWork work{};
  work.input = static_cast<const char*>(image.const_data_ptr());
  work.output = static_cast<char*>(output.data_ptr()) + first_channel * element;
  work.size = image.size(1) * element;
  work.input_pixel = image.stride(3) * element;
  work.output_pixel = output.stride(3) * element;
  work.pixels = image.size(0) * image.size(2) * image.size(3);
  work.members = team_size_for(work.pixels, static_cast<int64_t>(image.nbytes()), kBytesPerThread);
  run_shares(work.members, work, [](const CopyWork& copy, int member) {
    const auto [begin, end] = share(copy.pixels, member, copy.members);
    for (int64_t pixel = begin; pixel < end; ++pixel) {
      std::memcpy(copy.output + pixel * copy.output_pixel, copy.input + pixel * copy.input_pixel,
                  copy.size);
    }
  });
}

at::Tensor joined_convolutions(at::TensorList inputs, at::TensorList packed, at::TensorList biases,
                               at::IntArrayRef shapes, at::ArrayRef<double> limits) {
  const Parts parts = parts_of(inputs, packed, biases, shapes, limits);
  for (const Part& part : parts) part.check();
  at::Tensor output = empty_joined(parts);
  int64_t first = 0;
  for (const Part& part : parts) {
    if (part.layer) {
      convolve_into(output, first, part.input, *part.layer, std::nullopt);
      first += part.layer->shape.weight[0];
    } else {
      copy_into(output, first, part.input);
      first += part.input.size(1);
    }
  }
  return output;
}

at::Tensor joined_convolutions_meta(at::TensorList inputs, at::TensorList packed,
                                    at::TensorList biases, at::IntArrayRef shapes,
                                    at::ArrayRef<double> limits) {
  return empty_joined(parts_of(inputs, packed, biases, shapes, limits));
}

auto& joined_operator() {
  static const auto found =
      operator_named<decltype(joined_convolutions)>("corestream::joined_convolutions");
  return found;
}

at::Tensor joined_convolutions_autograd(at::TensorList inputs, at::TensorList packed,
                                        at::TensorList biases, at::IntArrayRef shapes,
                                        at::ArrayRef<double> limits) {
  const Parts parts = parts_of(inputs, packed, biases, shapes, limits);
  if (has_gradient(parts)) {
    joined_size(parts);
    std::vector<at::Tensor> results;
    results.reserve(parts.size());
    for (const Part& part : parts) {
      part.check();
      results.push_back(part.by_torch());
    }
    return joined(results);
  }
  at::AutoDispatchBelowADInplaceOrView below;
  return joined_operator().call(inputs, packed, biases, shapes, limits);
}

// Weights are packed in one dtype, which their inputs then have, whatever autocast made of them.
// Results of several dtypes are promoted, as cat does it.
at::Tensor joined_convolutions_autocast(at::TensorList inputs, at::TensorList packed,
                                        at::TensorList biases, at::IntArrayRef shapes,
                                        at::ArrayRef<double> limits) {
  c10::impl::ExcludeDispatchKeyGuard no_autocast(c10::DispatchKey::AutocastCPU);
  Parts parts = parts_of(inputs, packed, biases, shapes, limits);
  std::vector<at::Tensor> cast;
  cast.reserve(parts.size());
  for (Part& part : parts) {
    if (part.layer && !part.layer->shape.is_depthwise()) {
      part.input = part.input.to(part.layer->packed.scalar_type());
    }
    cast.push_back(part.input);
  }
  const bool is_one_dtype = std::all_of(cast.begin(), cast.end(), [&](const at::Tensor& input) {
    return input.scalar_type() == cast[0].scalar_type();
  });
  if (is_one_dtype) return joined_operator().call(cast, packed, biases, shapes, limits);
  std::vector<at::Tensor> results;
  results.reserve(parts.size());
  for (const Part& part : parts) results.push_back(part.alone());
  return joined(results);
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
