// torch.ops.corestream.convolution_chain: convolutions of which each reads what the one before it
// wrote, and nobody else does.
#include <ATen/Functions.h>
#include <torch/library.h>

#include <cstdint>
#include <optional>
#include <utility>
#include <vector>

#include "chain_plan.h"
#include "chain_rows.h"
#include "convolution.h"
#include "convolution_team.h"
#include "encoded_convolutions.h"
#include "operands.h"
#include "team_shares.h"
#include "winograd.h"

namespace corestream {
namespace {

using Layers = std::vector<PackedConvolution>;

Layers layers_of(at::TensorList packed, at::TensorList biases, at::IntArrayRef shapes,
                 at::ArrayRef<double> limits) {
  Layers layers;
  for (auto& layer : decode_convolutions(packed, biases, shapes, limits)) {
    TORCH_CHECK(layer.has_value(),
                "each convolution of a chain must have a weight; got one that "
                "has none; call corestream.ops.convolution_chain");
    layers.push_back(*std::move(layer));
  }
  return layers;
}

// Sizes of the input and of what each convolution makes.
std::vector<ImageSize> checked_sizes(const at::Tensor& input, const Layers& layers,
                                     const std::optional<at::Tensor>& residual) {
  std::vector<ImageSize> sizes{image_size(input)};
  for (const PackedConvolution& layer : layers) {
    check_convolution(sizes.back(), input.scalar_type(), layer);
    sizes.push_back(convolved_size(sizes.back(), layer.shape));
  }
  check_residual(residual, sizes.back(), input.scalar_type());
  return sizes;
}

ChainStages stages_of(const Layers& layers, const std::vector<ImageSize>& sizes,
                      at::ScalarType dtype) {
  ChainStages stages;
  for (size_t i = 0; i < layers.size(); ++i) {
    ChainStage stage{};
    stage.convolution = describe_layer(sizes[i], layers[i]);
    stage.is_depthwise = layers[i].shape.is_depthwise();
    if (runs_here(layers[i], dtype) && !is_winograd(layers[i].packed) &&
        !lacks_zeros(stage.convolution, layers[i])) {
      stage.kernel = convolution_kernel(dtype, stage.is_depthwise);
    }
    stages.push_back(stage);
  }
  return stages;
}

// What a team does together.
struct ChainWork {
  ChainStages stages;
  int64_t element_size;
  int members;
  char* rings;
  int64_t ring_bytes;  // of a member
};

void run_by_rows(const at::Tensor& output, const at::Tensor& input, ChainStages stages,
                 const std::optional<at::Tensor>& residual) {
  Convolution& last = stages.back().convolution;
  const at::Tensor image = set_input(stages.front().convolution, input);
  const at::Tensor added = set_residual(last, residual);
  last.output = output.data_ptr();
  ChainWork work{};
  work.element_size = static_cast<int64_t>(input.element_size());
  work.members = chain_members(stages);
  work.ring_bytes = ring_bytes(stages, work.element_size);
  const at::Tensor rings =
      new_tensor({work.members * work.ring_bytes}, at::TensorOptions(at::kByte));
  work.rings = static_cast<char*>(rings.data_ptr());
  work.stages = std::move(stages);
  run_shares(work.members, work, [](const ChainWork& chain, int member) {
    const Convolution& c = chain.stages.back().convolution;
    const auto [begin, end] = share(c.batch * c.out_height, member, chain.members);
    run_rows(chain.stages, chain.element_size, begin, end, chain.rings + member * chain.ring_bytes);
  });
}

at::Tensor convolution_chain(const at::Tensor& input, at::TensorList packed, at::TensorList biases,
                             const std::optional<at::Tensor>& residual, at::IntArrayRef shapes,
                             at::ArrayRef<double> limits) {
  const Layers layers = layers_of(packed, biases, shapes, limits);
  const auto sizes = checked_sizes(input, layers, residual);
  const ChainStages stages = stages_of(layers, sizes, input.scalar_type());
  const auto element_size = static_cast<int64_t>(input.element_size());
  at::Tensor image = input;
  for (size_t begin = 0; begin < layers.size();) {
    const size_t end = begin + fused_stages(stages, begin, element_size);
    const auto added = end == layers.size() ? residual : std::nullopt;
    const at::Tensor output =
        new_tensor(sizes[end], input.options(), at::MemoryFormat::ChannelsLast);
    if (end == begin + 1) {
      convolve_into(output, /*first_channel=*/0, image, layers[begin], added);
    } else if (output.numel() > 0) {
      const auto first = stages.begin() + static_cast<int64_t>(begin);
      run_by_rows(output, image, {first, stages.begin() + static_cast<int64_t>(end)}, added);
    }
    image = output;
    begin = end;
  }
  return image;
}

at::Tensor convolution_chain_meta(const at::Tensor& input, at::TensorList packed,
                                  at::TensorList biases, const std::optional<at::Tensor>&,
                                  at::IntArrayRef shapes, at::ArrayRef<double> limits) {
  c10::SymDimVector size(input.sym_sizes());
  for (const PackedConvolution& layer : layers_of(packed, biases, shapes, limits)) {
    size = convolved_sym_size(size, layer.shape);
  }
  return at::empty_symint(size, input.options(), at::MemoryFormat::ChannelsLast);
}

auto& chain_operator() {
  static const auto found =
      operator_named<decltype(convolution_chain)>("corestream::convolution_chain");
  return found;
}

at::Tensor convolution_chain_autograd(const at::Tensor& input, at::TensorList packed,
                                      at::TensorList biases,
                                      const std::optional<at::Tensor>& residual,
                                      at::IntArrayRef shapes, at::ArrayRef<double> limits) {
  const Layers layers = layers_of(packed, biases, shapes, limits);
  bool has_gradient = needs_gradient({input, residual});
  for (const PackedConvolution& layer : layers) {
    has_gradient = has_gradient || needs_gradient({layer.bias});
  }
  if (has_gradient) {
    checked_sizes(input, layers, residual);
    at::Tensor image = input;
    for (const PackedConvolution& layer : layers) {
      const bool is_last = &layer == &layers.back();
      image = convolution_by_torch(image, layer, is_last ? residual : std::nullopt);
    }
    return image;
  }
  at::AutoDispatchBelowADInplaceOrView below;
  return chain_operator().call(input, packed, biases, residual, shapes, limits);
}

// The dense weights have one dtype, which the images then have, whatever autocast made of them.
at::Tensor convolution_chain_autocast(const at::Tensor& input, at::TensorList packed,
                                      at::TensorList biases,
                                      const std::optional<at::Tensor>& residual,
                                      at::IntArrayRef shapes, at::ArrayRef<double> limits) {
  c10::impl::ExcludeDispatchKeyGuard no_autocast(c10::DispatchKey::AutocastCPU);
  at::ScalarType dtype = input.scalar_type();
  for (const PackedConvolution& layer : layers_of(packed, biases, shapes, limits)) {
    if (!layer.shape.is_depthwise()) dtype = layer.packed.scalar_type();
  }
  return chain_operator().call(input.to(dtype), packed, biases, cast_to(residual, dtype), shapes,
                               limits);
}

}  // namespace
}  // namespace corestream

TORCH_LIBRARY_FRAGMENT(corestream, library) {
  library.def(
      "convolution_chain(Tensor input, Tensor[] packed, Tensor[] biases, Tensor? residual, "
      "int[] shapes, float[] limits) -> Tensor",
      {at::Tag::pt2_compliant_tag});
}
TORCH_LIBRARY_IMPL(corestream, CPU, library) {
  library.impl("convolution_chain", TORCH_FN(corestream::convolution_chain));
}
TORCH_LIBRARY_IMPL(corestream, Meta, library) {
  library.impl("convolution_chain", TORCH_FN(corestream::convolution_chain_meta));
}
TORCH_LIBRARY_IMPL(corestream, AutocastCPU, library) {
  library.impl("convolution_chain", TORCH_FN(corestream::convolution_chain_autocast));
}
TORCH_LIBRARY_IMPL(corestream, Autograd, library) {
  library.impl("convolution_chain", TORCH_FN(corestream::convolution_chain_autograd));
}
