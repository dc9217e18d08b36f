// Weights as Winograd's products take them, and back.
#include <ATen/Functions.h>

#include <array>
#include <vector>

#include "convolution.h"
#include "winograd.h"
#include "winograd_kernel.h"

namespace corestream {
namespace {

// Values of the polynomial whose coefficients a row of the kernel has, over what keeps the inputs'
// transform free of divisions: the product of the point's distances from the others.
at::Tensor kernel_transform(int64_t tile, int64_t kernel) {
  const at::Tensor points =
      tile == 4 ? at::tensor({0.0, 1.0, -1.0}, at::kDouble)
                : at::tensor({0.0, kWinogradA, -kWinogradA, kWinogradB, -kWinogradB}, at::kDouble);
  // Of each point from itself, one.
  const at::Tensor distances = points.unsqueeze(1) - points + at::eye(points.numel(), at::kDouble);
  const at::Tensor powers = at::pow(points.unsqueeze(1), at::arange(kernel, at::kDouble));
  const at::Tensor at_infinity = at::eye(kernel, at::kDouble).slice(0, kernel - 1);
  return at::cat({powers / distances.prod(1, /*keepdim=*/true), at_infinity});
}

// The same of rows and columns: (positions, taps).
at::Tensor tile_transform(int64_t tile, int64_t kernel) {
  const at::Tensor rows = kernel_transform(tile, kernel);
  return at::kron(rows, rows);
}

}  // namespace

at::Tensor pack_winograd(const at::Tensor& weight, int64_t tile) {
  TORCH_CHECK(weight.dim() == 4 && weight.size(2) == weight.size(3) &&
                  is_winograd_tile(kWidestTile, weight.size(2)),
              "weight must be (output channels, input channels, 3, 3) or (..., 5, 5); got ",
              weight.sizes(), "; use pack_convolution");
  TORCH_CHECK(weight.numel() > 0, "weight must not be empty; got ", weight.sizes(),
              "; leave such a layer to torch");
  TORCH_CHECK(weight.scalar_type() == at::kFloat, "weight must be float32; got ",
              weight.scalar_type(), "; use pack_convolution, or cast it");
  TORCH_CHECK(is_winograd_tile(tile, weight.size(2)), "tile must be 6, or 4 for 3 x 3; got ", tile,
              " for ", weight.sizes(), "; leave it out");
  // In double, so that what is rounded is the result and nothing before.
  const at::Tensor taps = weight.to(at::kDouble).flatten(2).permute({2, 0, 1}).flatten(1);
  const at::Tensor values = at::matmul(tile_transform(tile, weight.size(2)), taps)
                                .to(at::kFloat)
                                .view({-1, weight.size(0), weight.size(1), 1, 1});
  std::vector<at::Tensor> packed;
  for (const at::Tensor& matrix : values.unbind(0)) {
    packed.push_back(pack_convolution(matrix, /*groups=*/1));
  }
  return at::stack(packed).unflatten(0, {tile, tile});
}

at::Tensor unpack_winograd(const at::Tensor& packed, at::IntArrayRef weight_size) {
  const std::array<int64_t, 4> matrix = {weight_size[0], weight_size[1], 1, 1};
  std::vector<at::Tensor> values;
  for (const at::Tensor& position : packed.flatten(0, 1).unbind(0)) {
    values.push_back(unpack_convolution(position, matrix, /*groups=*/1, at::kDouble).flatten());
  }
  const at::Tensor taps = at::matmul(
      at::linalg_pinv(tile_transform(packed.size(0), weight_size[2])), at::stack(values));
  return taps.t().reshape(weight_size).to(packed.scalar_type());
}

}  // namespace corestream
