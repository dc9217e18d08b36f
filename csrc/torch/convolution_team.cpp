#include "convolution_team.h"

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

// What each member of a team does of a convolution.
struct DenseWork {
  Convolution convolution;
  ConvolutionKernel kernel;
  int64_t panels;
  Team team;
};
struct DepthwiseWork {
  Convolution convolution;
  ConvolutionKernel kernel;
  int64_t rows;
  int members;
};

// Panels, where pixels are few: each weight is then read by one member only.
Team team_for(const Convolution& c, int64_t panels, int64_t work) {
  const int members = team_size_for(work, work, kLeastProducts);
  const bool is_low = c.num_pixels() < kLeastPixels * members;
  const bool is_weighty = panels % members == 0 && c.num_pixels() < c.out_channels;
  return {members, panels >= members && (is_low || is_weighty)};
}

void run_dense(const Convolution& c, const ConvolutionKernel& kernel) {
  const int64_t panels = Panels(c.out_channels, kernel.panel_vectors).count;
  const int64_t products = c.num_pixels() * c.out_channels * c.channels * c.num_taps();
  const DenseWork work{c, kernel, panels, team_for(c, panels, products)};
  run_shares(work.team.size, work, [](const DenseWork& dense, int member) {
    const int64_t pixels = dense.convolution.num_pixels();
    std::pair<int64_t, int64_t> rows{0, pixels}, columns{0, dense.panels};
    if (dense.team.divides_panels) {
      columns = share(dense.panels, member, dense.team.size);
    } else {
      rows = share(pixels, member, dense.team.size);
    }
    dense.kernel.run(dense.convolution, {rows.first, rows.second, columns.first, columns.second});
  });
}

void run_depthwise(const Convolution& c, const ConvolutionKernel& kernel) {
  const int64_t rows = c.batch * c.out_height;
  // A multiplication takes as long as several of a dense one, which has more in registers.
  const int64_t products = 8 * c.num_pixels() * c.channels * c.num_taps();
  const DepthwiseWork work{c, kernel, rows, team_size_for(rows, products, kLeastProducts)};
  run_shares(work.members, work, [](const DepthwiseWork& depthwise, int member) {
    const auto [begin, end] = share(depthwise.rows, member, depthwise.members);
    depthwise.kernel.run(depthwise.convolution, {begin, end, 0, 0});
  });
}

}  // namespace

ConvolutionKernel convolution_kernel([[maybe_unused]] c10::ScalarType dtype,
                                     [[maybe_unused]] bool is_depthwise) {
#if defined(__x86_64__)
  if (is_depthwise) {
    return choose_kernel<ConvolutionKernel>(dtype, {&convolve_depthwise_fp32_avx2},
                                            {&convolve_depthwise_fp32_avx512},
                                            {&convolve_depthwise_bf16_avx512});
  }
  return choose_kernel<ConvolutionKernel>(dtype, {&convolve_dense_fp32_avx2, /*panel_vectors=*/1},
                                          {&convolve_dense_fp32_avx512},
                                          {&convolve_dense_bf16_avx512});
#else
  return {};
#endif
}

void run_convolution(const Convolution& convolution, c10::ScalarType dtype, bool is_depthwise) {
  const ConvolutionKernel kernel = convolution_kernel(dtype, is_depthwise);
  if (is_depthwise) return run_depthwise(convolution, kernel);
  run_dense(convolution, kernel);
}

}  // namespace corestream
