// The pooling kernels of csrc/torch, on memory that ends where the tensors do.
#include <algorithm>
#include <cmath>
#include <limits>
#include <memory>
#include <random>

#include "elements.h"
#include "pool_kernel.h"
#include "testing.h"

#if defined(__x86_64__)
namespace corestream {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

// A pooling of two images without a gap, or with one after each pixel, and what it should be.
template <typename Element>
class Case {
 public:
  Case(std::mt19937& random, int turn) {
    const auto upto = [&](int64_t most) { return 1 + static_cast<int64_t>(random() % most); };
    Pool& p = pool_;
    p.channels = p.output_pixel = upto(turn % 2 == 0 ? 20 : 150);
    p.input_pixel = p.channels + (turn % 3 == 0 ? 5 : 0);
    p.kernel_height = upto(3);
    p.kernel_width = upto(4);
    p.stride_height = upto(3);
    p.stride_width = upto(3);
    p.dilation_height = p.dilation_width = turn % 4 == 0 ? 2 : 1;
    p.pad_height = p.kernel_height / 2;
    p.pad_width = p.kernel_width / 2;
    p.height = 2 * p.kernel_height + upto(6);
    p.width = 2 * p.kernel_width + upto(6);
    p.out_height = size(p.height, p.kernel_height, p.stride_height, p.pad_height);
    p.out_width = size(p.width, p.kernel_width, p.stride_width, p.pad_width);
    p.is_average = turn % 5 == 0;
    p.counts_pad = turn % 10 == 0;
    // The last pixel has no gap behind it.
    const int64_t inputs = 2 * p.height * p.width * p.input_pixel - (p.input_pixel - p.channels);
    input_ = std::make_unique_for_overwrite<Element[]>(inputs);
    std::uniform_real_distribution<float> values(-1, 1);
    for (int64_t i = 0; i < inputs; ++i) store(input_[i], values(random));
    if (turn % 7 == 0) {
      store(input_[inputs - 1], std::numeric_limits<float>::quiet_NaN());
      store(input_[inputs / 2], -kInfinity);
    }
    output_ = std::make_unique<Element[]>(2 * p.out_height * p.out_width * p.channels);
    p.input = input_.get();
    p.output = output_.get();
  }

  void run(PoolKernel kernel) {
    const auto workspace = std::make_unique_for_overwrite<float[]>(pool_.width * pool_.channels);
    const int64_t rows = 2 * pool_.out_height;
    kernel(pool_, 0, rows / 3, workspace.get());
    kernel(pool_, rows / 3, rows, workspace.get());
  }

  double error() const {
    const Pool& p = pool_;
    double worst = 0;
    for (int64_t pixel = 0; pixel < 2 * p.out_height * p.out_width; ++pixel) {
      for (int64_t channel = 0; channel < p.channels; ++channel) {
        const double found = value_of(output_[pixel * p.channels + channel]);
        const double wanted = expected(pixel, channel);
        if (found == wanted || (std::isnan(found) && std::isnan(wanted))) continue;
        worst = std::max(worst, distance(found, wanted));
      }
    }
    return worst;
  }

 private:
  int64_t size(int64_t length, int64_t kernel, int64_t stride, int64_t pad) const {
    return (length + 2 * pad - pool_.dilation_height * (kernel - 1) - 1) / stride + 1;
  }

  double expected(int64_t pixel, int64_t channel) const {
    const Pool& p = pool_;
    const int64_t x = pixel % p.out_width, y = pixel / p.out_width % p.out_height;
    const int64_t image = pixel / p.out_width / p.out_height;
    float largest = -kInfinity;
    double sum = 0;
    int64_t present = 0;
    for (int64_t tap = 0; tap < p.kernel_height * p.kernel_width; ++tap) {
      const int64_t row =
          y * p.stride_height - p.pad_height + tap / p.kernel_width * p.dilation_height;
      const int64_t column =
          x * p.stride_width - p.pad_width + tap % p.kernel_width * p.dilation_width;
      if (row < 0 || row >= p.height || column < 0 || column >= p.width) continue;
      const float value =
          value_of(input_[((image * p.height + row) * p.width + column) * p.input_pixel + channel]);
      largest = value > largest || std::isnan(value) ? value : largest;
      sum += value;
      ++present;
    }
    if (!p.is_average) return largest;
    // Of a floor of sizes, no window reaches beyond the padding.
    return sum / static_cast<double>(p.counts_pad ? p.kernel_height * p.kernel_width : present);
  }

  Pool pool_{};
  std::unique_ptr<Element[]> input_, output_;
};

template <typename Element>
void try_pools(PoolKernel kernel, double limit) {
  std::mt19937 random(7);
  for (int turn = 0; turn < 200; ++turn) {
    Case<Element> one(random, turn);
    one.run(kernel);
    CHECK(one.error() < limit);
  }
}

TEST(fp32_stays_within_its_tensors_and_is_right) {
  if (has_avx2()) try_pools<float>(&pool_fp32_avx2, 1e-6);
  if (has_avx512()) try_pools<float>(&pool_fp32_avx512, 1e-6);
}

TEST(bf16_stays_within_its_tensors_and_is_right) {
  if (has_avx512_bf16()) try_pools<uint16_t>(&pool_bf16_avx512, 1e-2);
}

}  // namespace
}  // namespace corestream
#endif
