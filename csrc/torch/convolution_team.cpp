#include "convolution_team.h"

#include <algorithm>
#include <cstdint>
#include <utility>

#include "cpu_kernels.h"
#include "team_shares.h"

namespace corestream {
namespace {

// Pixels that a member of a team needs for its tiles to be high.
constexpr int64_t kLeastPixels = 24;

struct Team {
  int size;
  bool divides_panels;
};

// What a team does together: rows of pixels, or of the image where it is depthwise.
struct ConvolutionWork {
  Convolution convolution;
  ConvolutionKernel kernel;
  int64_t rows, panels;
  Team team;
};

// Panels, where pixels are few: each weight is then read by one member only.
Team dense_team(const Convolution& c, int64_t panels) {
  const int64_t products = row_products(c, /*is_depthwise=*/false) * c.batch * c.out_height;
  const int members = team_size_for(products, products, kLeastProducts);
  const bool is_low = c.num_pixels() < kLeastPixels * members;
  const bool is_weighty = panels % members == 0 && c.num_pixels() < c.out_channels;
  return {members, panels >= members && (is_low || is_weighty)};
}

// Rows, unless they are so few that members would wait: a row's channels are read in order, which
// is 10 to 20 % faster for a layer alone on two cores and 1 % in MobileNetV2.
Team depthwise_team(const Convolution& c, int64_t rows, int64_t panels) {
  const int64_t products = row_products(c, /*is_depthwise=*/true) * rows;
  const int members = team_size_for(std::max(rows, panels), products, kLeastProducts);
  const bool divides_panels = evenness(panels, members) > 1.1 * evenness(rows, members);
  return {members, divides_panels};
}

}  // namespace

int64_t row_products(const Convolution& c, bool is_depthwise) {
  // A multiplication of a depthwise layer takes as long as several of a dense one, which has more
  // in registers.
  const int64_t each = is_depthwise ? 8 : c.channels;
  return c.out_width * c.out_channels * c.num_taps() * each;
}

ConvolutionKernel convolution_kernel([[maybe_unused]] c10::ScalarType dtype,
                                     [[maybe_unused]] bool is_depthwise) {
#if defined(__x86_64__)
  if (is_depthwise) {
    return choose_kernel<ConvolutionKernel>(dtype, {&convolve_depthwise_fp32_avx2, 1},
                                            {&convolve_depthwise_fp32_avx512, 1},
                                            {&convolve_depthwise_bf16_avx512, 1});
  }
  return choose_kernel<ConvolutionKernel>(dtype, {&convolve_dense_fp32_avx2, /*panel_vectors=*/1},
                                          {&convolve_dense_fp32_avx512},
                                          {&convolve_dense_bf16_avx512});
#else
  return {};
#endif
}

void run_convolution(const Convolution& convolution, c10::ScalarType dtype, bool is_depthwise) {
  const Convolution& c = convolution;
  const ConvolutionKernel kernel = convolution_kernel(dtype, is_depthwise);
  const int64_t rows = is_depthwise ? c.batch * c.out_height : c.num_pixels();
  const int64_t panels = Panels(c.out_channels, kernel.panel_vectors).count;
  const Team team = is_depthwise ? depthwise_team(c, rows, panels) : dense_team(c, panels);
  const ConvolutionWork work{c, kernel, rows, panels, team};
  run_shares(team.size, work, [](const ConvolutionWork& all, int member) {
    std::pair<int64_t, int64_t> of_rows{0, all.rows}, of_panels{0, all.panels};
    if (all.team.divides_panels) {
      of_panels = share(all.panels, member, all.team.size);
    } else {
      of_rows = share(all.rows, member, all.team.size);
    }
    all.kernel.run(all.convolution,
                   {of_rows.first, of_rows.second, of_panels.first, of_panels.second});
  });
}

}  // namespace corestream
