#include <algorithm>
#include <cstdint>

#include "convolution_team.h"
#include "cpu_kernels.h"
#include "operands.h"
#include "team_shares.h"
#include "winograd.h"
#include "winograd_layer.h"

namespace corestream {
namespace {

// Values of a block of a layer with few channels: they stay in a core's second-level cache.
constexpr int64_t kBlockBytes = 256 * 1024;
// Tiles of a block at least: each weight is read once for so many. With more channels than some 70
// only the values of a few positions, what a product reads and writes, are in that cache.
constexpr int64_t kLeastTiles = 24;
// The share of their time that members may be busy when they divide channels, of what it was.
constexpr double kLeastEvenness = 0.8;

WinogradKernel winograd_kernel([[maybe_unused]] c10::ScalarType dtype) {
#if defined(__x86_64__)
  return choose_kernel<WinogradKernel>(dtype, {&read_winograd_fp32_avx2, &write_winograd_fp32_avx2},
                                       {&read_winograd_fp32_avx512, &write_winograd_fp32_avx512},
                                       {});
#else
  return {};
#endif
}

// Members that share tiles, each group of them for some panels of the output.
struct WinogradTeam {
  int members, groups;

  int members_of_group() const { return members / groups; }
};

// All panels by each member, unless tiles are so few that weights would be most of what is read. A
// member's inputs are transformed by each group.
WinogradTeam winograd_team(const WinogradLayer& layer) {
  const Convolution& c = layer.convolution;
  const int64_t tiles = layer.num_tiles(), panels = layer.panels().count;
  const int64_t products = tiles * layer.num_positions() * c.channels * c.out_channels;
  const int members = team_size_for(tiles * panels, products, kLeastProducts);
  WinogradTeam team{members, 1};
  for (int groups = 2; groups <= std::min<int64_t>(members, panels); ++groups) {
    if (tiles >= kLeastTiles * team.members_of_group()) break;
    const bool is_even =
        members % groups == 0 && evenness(tiles, members / groups) * evenness(panels, groups) >=
                                     kLeastEvenness * evenness(tiles, members);
    if (is_even) team.groups = groups;
  }
  return team;
}

struct WinogradWork {
  WinogradLayer layer;
  WinogradTeam team;
  float* values;
};

}  // namespace

bool has_winograd_form(const ConvolutionShape& shape) {
  const auto are = [](at::IntArrayRef sizes, int64_t size) {
    return sizes[0] == size && sizes[1] == size;
  };
  const at::IntArrayRef kernel = shape.weight.slice(2);
  return shape.groups == 1 && is_winograd_tile(kWidestTile, kernel[0]) && are(kernel, kernel[0]) &&
         are(shape.stride, 1) && are(shape.dilation, 1);
}

bool has_winograd_kernel(at::ScalarType dtype, const ConvolutionShape& shape) {
  return has_convolution_kernel(dtype, shape) && winograd_kernel(dtype) && has_winograd_form(shape);
}

void run_winograd(const Convolution& convolution, int64_t tile) {
  const Convolution& c = convolution;
  WinogradLayer layer{};
  layer.tile = tile;
  layer.convolution = c;
  layer.kernel = winograd_kernel(c10::kFloat);
  layer.product = convolution_kernel(c10::kFloat, /*is_depthwise=*/false);
  const int64_t tiles = layer.num_tiles();
  const WinogradTeam team = winograd_team(layer);
  const int64_t each = (tiles + team.members_of_group() - 1) / team.members_of_group();
  const int64_t tile_bytes =
      layer.num_positions() * (c.channels + c.out_channels) * static_cast<int64_t>(sizeof(float));
  layer.most_tiles = std::min(each, std::max(kLeastTiles, kBlockBytes / tile_bytes));
  const at::Tensor memory =
      new_tensor({team.members * layer.num_values()}, at::TensorOptions(at::kFloat));
  const WinogradWork work{layer, team, memory.mutable_data_ptr<float>()};
  run_shares(team.members, work, [](const WinogradWork& all, int member) {
    const WinogradTeam& of = all.team;
    const auto [begin, end] =
        share(all.layer.num_tiles(), member / of.groups, of.members_of_group());
    const auto [panel, end_panel] = share(all.layer.panels().count, member % of.groups, of.groups);
    all.layer.run({begin, end, panel, end_panel}, all.values + member * all.layer.num_values());
  });
}

}  // namespace corestream
