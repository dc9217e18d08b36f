// Weights in the order in which the kernels of convolution_kernel.h read them, and back. They may
// be saved and loaded where other kernels run, so a tensor tells its order by its dims: two for
// panels of one vector, (vectors, rest), as all depthwise ones have them; one for others.
// Winograd's have one such tensor for each position, (tile, tile, ...).
#include <ATen/Functions.h>

#include <array>

#include "convolution.h"
#include "convolution_kernel.h"
#include "convolution_team.h"
#include "operands.h"
#include "winograd.h"
#include "winograd_kernel.h"

namespace corestream {
namespace {

int64_t num_vectors(int64_t channels) { return (channels + kVector - 1) / kVector; }
int64_t padded_channels(int64_t channels) { return num_vectors(channels) * kVector; }

int64_t panel_vectors(const at::Tensor& packed) { return packed.dim() % 2 == 0 ? 1 : kWidestPanel; }

// Calls visit(index in the packed weights, index in those of conv2d) for each weight.
template <typename Visit>
void visit_dense(at::IntArrayRef sizes, int64_t per_unit, int64_t most, const Visit& visit) {
  const int64_t out = sizes[0], in = sizes[1], height = sizes[2], width = sizes[3];
  const int64_t taps = height * width, length = run_length(in, width);
  const int64_t runs = num_runs(in, height, width);
  const Panels panels(out, most);
  int64_t packed = 0;
  for (int64_t panel = 0; panel < panels.count; ++panel) {
    const int64_t first = panels.start(panel) * kVector;
    const int64_t end = panels.start(panel + 1) * kVector;
    for (int64_t run = 0; run < runs; ++run) {
      for (int64_t unit = 0; unit < length; unit += per_unit) {
        for (int64_t column = first; column < end; ++column) {
          for (int64_t part = 0; part < per_unit; ++part, ++packed) {
            // Counted over taps, the channels of each together.
            const int64_t element = run * length + unit + part;
            if (column >= out || unit + part >= length) continue;
            visit(packed, (column * in + element % in) * taps + element / in);
          }
        }
      }
    }
  }
}

int64_t packed_elements(at::IntArrayRef sizes, int64_t per_unit) {
  const int64_t length = run_length(sizes[1], sizes[3]);
  const int64_t units = (length + per_unit - 1) / per_unit;
  return padded_channels(sizes[0]) * num_runs(sizes[1], sizes[2], sizes[3]) * units * per_unit;
}

template <typename Visit>
void visit_depthwise(at::IntArrayRef sizes, const Visit& visit) {
  const int64_t channels = sizes[0], taps = sizes[2] * sizes[3];
  for (int64_t channel = 0; channel < channels; ++channel) {
    const int64_t first = channel / kVector * taps * kVector + channel % kVector;
    for (int64_t tap = 0; tap < taps; ++tap) {
      visit(first + tap * kVector, channel * taps + tap);
    }
  }
}

template <typename T>
void copy_dense(at::IntArrayRef sizes, int64_t per_unit, const at::Tensor& packed,
                const at::Tensor& plain, bool packs) {
  auto* in_order = static_cast<T*>(packed.data_ptr());
  auto* as_given = static_cast<T*>(plain.data_ptr());
  visit_dense(sizes, per_unit, panel_vectors(packed), [&](int64_t to, int64_t from) {
    if (packs) {
      in_order[to] = as_given[from];
    } else {
      as_given[from] = in_order[to];
    }
  });
}

void copy_weights(at::IntArrayRef sizes, const at::Tensor& packed, const at::Tensor& plain,
                  bool packs) {
  if (plain.scalar_type() == at::kFloat) {
    copy_dense<float>(sizes, 1, packed, plain, packs);
  } else {
    copy_dense<uint16_t>(sizes, 2, packed, plain, packs);
  }
}

// Whether it is that of what pack_convolution makes of such a weight.
bool is_packed_size(at::IntArrayRef packed, at::IntArrayRef weight, int64_t groups,
                    at::ScalarType dtype) {
  const bool depthwise = is_depthwise(weight, groups);
  const bool has_vectors = packed.size() == 2 && packed[0] == num_vectors(weight[0]);
  const int64_t expected = depthwise ? weight[2] * weight[3] * padded_channels(weight[0])
                                     : packed_elements(weight, dtype == at::kFloat ? 1 : 2);
  return (has_vectors || (packed.size() == 1 && !depthwise)) &&
         c10::multiply_integers(packed) == expected;
}

// The same of pack_winograd.
bool is_packed_winograd_size(at::IntArrayRef packed, at::IntArrayRef weight, int64_t groups,
                             at::ScalarType dtype) {
  const std::array<int64_t, 4> matrix = {weight[0], weight[1], 1, 1};
  return dtype == at::kFloat && groups == 1 && weight[2] == weight[3] && packed[0] == packed[1] &&
         is_winograd_tile(packed[0], weight[2]) &&
         is_packed_size(packed.slice(2), matrix, groups, dtype);
}

}  // namespace

at::Tensor pack_convolution(const at::Tensor& weight, int64_t groups) {
  TORCH_CHECK(weight.dim() == 4, "weight must have 4 dims; got ", weight.dim(),
              "; pass that of a Conv2d");
  const auto sizes = weight.sizes();
  const bool depthwise = is_depthwise(sizes, groups);
  TORCH_CHECK(depthwise || groups == 1, "groups must be 1 or the number of channels; got ", groups,
              "; leave it to torch");
  TORCH_CHECK(weight.scalar_type() == at::kFloat || weight.scalar_type() == at::kBFloat16,
              "weight must be float32 or bfloat16; got ", weight.scalar_type(), "; cast it");
  TORCH_CHECK(weight.numel() > 0, "weight must not be empty; got ", sizes,
              "; leave such a layer to torch");
  const int64_t taps = sizes[2] * sizes[3];
  if (depthwise) {
    const at::Tensor plain = weight.to(at::kFloat).contiguous();
    at::Tensor packed = at::zeros({num_vectors(sizes[0]), taps * kVector}, plain.options());
    const auto* from = plain.const_data_ptr<float>();
    auto* to = packed.mutable_data_ptr<float>();
    visit_depthwise(sizes, [&](int64_t at, int64_t index) { to[at] = from[index]; });
    return packed;
  }
  const at::Tensor plain = weight.contiguous();
  const int64_t elements = packed_elements(sizes, weight.scalar_type() == at::kFloat ? 1 : 2);
  const ConvolutionKernel kernel = convolution_kernel(weight.scalar_type(), depthwise);
  at::Tensor packed = at::zeros({elements}, plain.options());
  if (kernel.panel_vectors == 1) packed = packed.view({num_vectors(sizes[0]), -1});
  copy_weights(sizes, packed, plain, /*packs=*/true);
  return packed;
}

void check_packed(const at::Tensor& packed, const std::optional<at::Tensor>& bias,
                  at::IntArrayRef weight_size, int64_t groups, at::ScalarType dtype) {
  const auto expected_dtype = is_depthwise(weight_size, groups) ? at::kFloat : dtype;
  const bool has_size = is_winograd(packed)
                            ? is_packed_winograd_size(packed.sizes(), weight_size, groups, dtype)
                            : is_packed_size(packed.sizes(), weight_size, groups, dtype);
  TORCH_CHECK((dtype == at::kFloat || dtype == at::kBFloat16) &&
                  packed.scalar_type() == expected_dtype && has_size && packed.is_contiguous(),
              "packed must be what pack_convolution or pack_winograd makes of a weight of ",
              weight_size, " in ", dtype, "; got ", packed.sizes(), " in ", packed.scalar_type(),
              "; pack the weight in it");
  if (!is_given(bias)) return;
  TORCH_CHECK(
      bias->scalar_type() == at::kFloat && bias->numel() == weight_size[0] && bias->is_contiguous(),
      "bias must be ", weight_size[0], " adjacent numbers in float32; got ", bias->sizes(), " in ",
      bias->scalar_type(), "; call .float()");
}

bool is_packed_here(const at::Tensor& packed, at::ScalarType dtype, bool is_depthwise) {
  const ConvolutionKernel kernel = convolution_kernel(dtype, is_depthwise);
  return kernel && (is_depthwise || kernel.panel_vectors == panel_vectors(packed));
}

at::Tensor unpack_convolution(const at::Tensor& packed, at::IntArrayRef weight_size, int64_t groups,
                              at::ScalarType dtype) {
  if (is_winograd(packed)) return unpack_winograd(packed, weight_size).to(dtype);
  at::Tensor plain = at::empty(weight_size, packed.options());
  if (is_depthwise(weight_size, groups)) {
    const auto* from = packed.const_data_ptr<float>();
    auto* to = plain.mutable_data_ptr<float>();
    visit_depthwise(weight_size, [&](int64_t at, int64_t index) { to[index] = from[at]; });
  } else {
    copy_weights(weight_size, packed, plain, /*packs=*/false);
  }
  return plain.to(dtype);
}

}  // namespace corestream
