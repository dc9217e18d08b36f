// Convolutions row by row, in rings that end where they must, against the same kernels on images.
#include "chain_rows.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <memory>
#include <random>
#include <vector>

#include "convolution_kernel.h"
#include "elements.h"
#include "testing.h"

#if defined(__x86_64__)
namespace corestream {
namespace {

constexpr int64_t kElement = sizeof(float);

struct Kernels {
  ConvolutionKernel dense, depthwise;
};

// Stages with whatever weights: both ways read them in the same order.
class Chain {
 public:
  Chain(const Kernels& kernels, std::mt19937& random) : kernels_(kernels), random_(random) {
    Convolution image{};
    image.batch = 1 + upto(2);
    image.out_channels = 1 + upto(40);
    image.out_height = 5 + upto(14);
    image.out_width = 5 + upto(14);
    input_ = some(image.num_pixels() * image.out_channels);
    const int64_t count = 2 + upto(3);
    for (int64_t stage = 0; stage < count; ++stage) {
      add(stage == 0 ? image : stages_.back().convolution);
    }
    stages_.front().convolution.input = input_.get();
    Convolution& last = stages_.back().convolution;
    residual_ = some(num_outputs());
    last.residual = residual_.get();
    last.residual_pixel = last.out_channels;
    last.has_gelu = upto(2) == 0;
  }

  // What comes out if members of a team each make some rows.
  std::vector<float> by_rows(int64_t members) {
    std::vector<float> output(num_outputs());
    stages_.back().convolution.output = output.data();
    const Convolution& last = stages_.back().convolution;
    const int64_t rows = last.batch * last.out_height, bytes = ring_bytes(stages_, kElement);
    for (int64_t member = 0; member < members; ++member) {
      const auto rings = std::make_unique_for_overwrite<char[]>(bytes);
      run_rows(stages_, kElement, rows * member / members, rows * (member + 1) / members,
               rings.get());
    }
    return output;
  }

  std::vector<float> by_images() const {
    std::vector<float> input, output;
    for (const ChainStage& stage : stages_) {
      Convolution c = stage.convolution;
      if (!input.empty()) c.input = input.data();
      output.assign(c.num_pixels() * c.out_channels, 0);
      c.output = output.data();
      const int64_t rows = stage.is_depthwise ? c.batch * c.out_height : c.num_pixels();
      stage.kernel.run(c, {0, rows, 0, Panels(c.out_channels, stage.kernel.panel_vectors).count});
      input = output;
    }
    return output;
  }

 private:
  int64_t upto(int64_t count) { return static_cast<int64_t>(random_() % count); }

  int64_t num_outputs() const {
    const Convolution& c = stages_.back().convolution;
    return c.num_pixels() * c.out_channels;
  }

  std::unique_ptr<float[]> some(int64_t count) {
    std::uniform_real_distribution<float> values(-0.3f, 0.3f);
    auto memory = std::make_unique_for_overwrite<float[]>(count);
    for (int64_t i = 0; i < count; ++i) memory[i] = values(random_);
    return memory;
  }

  // Reads what `before` writes. The first may be any, the others depthwise or products.
  void add(const Convolution& before) {
    const bool is_first = stages_.empty(), is_depthwise = upto(2) == 0;
    Convolution c{};
    c.batch = before.batch;
    c.channels = c.input_pixel = before.out_channels;
    c.height = before.out_height;
    c.width = before.out_width;
    c.out_channels = is_depthwise ? c.channels : 1 + upto(70);
    c.output_pixel = c.out_channels;
    c.kernel_height = c.kernel_width = is_depthwise ? 3 + 2 * upto(2) : 1;
    c.stride_height = c.stride_width = is_depthwise ? 1 + upto(2) : 1;
    c.dilation_height = c.dilation_width = 1;
    if (is_depthwise) {
      c.pad_height = c.kernel_height / 2 + upto(2);
      c.pad_width = c.kernel_width / 2 + upto(2);
    } else if (is_first) {
      c.kernel_height += upto(3);
      c.kernel_width += upto(3);
      c.stride_height += upto(2);
      c.stride_width += upto(2);
      c.pad_height = upto(3);
      c.pad_width = upto(3);
    }
    c.out_height = (c.height + 2 * c.pad_height - c.kernel_height) / c.stride_height + 1;
    c.out_width = (c.width + 2 * c.pad_width - c.kernel_width) / c.stride_width + 1;
    c.low = -1;
    c.high = std::numeric_limits<float>::infinity();
    const int64_t padded = (c.out_channels + kVector - 1) / kVector * kVector;
    c.weight = keep(some(padded * (is_depthwise ? 1 : c.channels) * c.num_taps()));
    c.bias = keep(some(c.out_channels));
    c.zeros = keep(std::make_unique<float[]>(run_length(c.channels, c.kernel_width)));
    stages_.push_back({c, is_depthwise ? kernels_.depthwise : kernels_.dense, is_depthwise});
  }

  const float* keep(std::unique_ptr<float[]> memory) {
    kept_.push_back(std::move(memory));
    return kept_.back().get();
  }

  const Kernels kernels_;
  std::mt19937& random_;
  ChainStages stages_;
  std::unique_ptr<float[]> input_, residual_;
  std::vector<std::unique_ptr<float[]>> kept_;
};

void try_chains(const Kernels& kernels) {
  std::mt19937 random(11);
  for (int turn = 0; turn < 120; ++turn) {
    Chain chain(kernels, random);
    const std::vector<float> expected = chain.by_images(), found = chain.by_rows(1 + turn % 5);
    double worst = 0;
    for (size_t i = 0; i < expected.size(); ++i) {
      worst = std::max<double>(worst, std::abs(expected[i] - found[i]));
    }
    CHECK(worst < 1e-4);
  }
}

TEST(rows_are_those_of_images) {
  if (has_avx2()) {
    try_chains({{&convolve_dense_fp32_avx2, 1}, {&convolve_depthwise_fp32_avx2, 1}});
  }
  if (!has_avx512()) return;
  try_chains({{&convolve_dense_fp32_avx512}, {&convolve_depthwise_fp32_avx512, 1}});
}

TEST(a_ring_has_the_rows_of_a_kernel_in_whole_cache_lines) {
  ChainStage pointwise{}, depthwise{};
  pointwise.convolution.out_width = 7;
  pointwise.convolution.out_channels = 5;
  depthwise.convolution.kernel_height = 3;
  CHECK_EQ(row_bytes(pointwise, kElement), 7 * 5 * 4);
  CHECK_EQ(ring_bytes({pointwise, depthwise}, kElement), (3 * 7 * 5 * 4 + 63) / 64 * 64);
}

}  // namespace
}  // namespace corestream
#endif
