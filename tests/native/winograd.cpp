// Layers by Winograd's algorithm, on memory that ends where the tensors do.
#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <memory>
#include <random>
#include <vector>

#include "convolution_kernel.h"
#include "elements.h"
#include "testing.h"
#include "winograd_layer.h"

#if defined(__x86_64__)
namespace corestream {
namespace {

using Values = std::unique_ptr<float[]>;

struct Shape {
  int64_t tile, batch, channels, height, width, out_channels, kernel, pad;
  bool has_residual;
};

struct Kernels {
  WinogradKernel tiles;
  ConvolutionKernel product;
};

using Taps = std::array<double, 5>;

// A row of a kernel at the points: its polynomial's values over the inputs' divisors.
std::vector<double> at_points(const Taps& row, const Shape& shape) {
  const std::vector<double> points =
      shape.tile == 4 ? std::vector<double>{0, 1, -1}
                      : std::vector<double>{0, kWinogradA, -kWinogradA, kWinogradB, -kWinogradB};
  std::vector<double> values;
  for (size_t i = 0; i < points.size(); ++i) {
    double divisor = 1, power = 1, sum = 0;
    for (size_t j = 0; j < points.size(); ++j) divisor *= i == j ? 1 : points[i] - points[j];
    for (int64_t tap = 0; tap < shape.kernel; ++tap, power *= points[i]) sum += row[tap] * power;
    values.push_back(sum / divisor);
  }
  values.push_back(row[shape.kernel - 1]);
  return values;
}

// A layer of tensors without a gap, and what it should be.
class Case {
 public:
  Case(const Shape& shape, const Kernels& kernels, std::mt19937& random)
      : shape_(shape), random_(random) {
    Convolution& c = layer_.convolution;
    c.batch = shape.batch;
    c.channels = c.input_pixel = shape.channels;
    c.height = shape.height;
    c.width = shape.width;
    c.out_channels = c.output_pixel = c.residual_pixel = shape.out_channels;
    c.kernel_height = c.kernel_width = shape.kernel;
    c.stride_height = c.stride_width = c.dilation_height = c.dilation_width = 1;
    c.pad_height = c.pad_width = shape.pad;
    c.out_height = shape.height + 2 * shape.pad - shape.kernel + 1;
    c.out_width = shape.width + 2 * shape.pad - shape.kernel + 1;
    c.low = -0.5f;
    c.high = std::numeric_limits<float>::infinity();
    input_ = some(c.batch * c.height * c.width * c.channels);
    residual_ = some(c.num_pixels() * c.out_channels);
    output_ = std::make_unique<float[]>(c.num_pixels() * c.out_channels);
    bias_ = some(c.out_channels);
    zeros_ = std::make_unique<float[]>(c.channels);
    weight_ = some(c.out_channels * c.channels * c.num_taps());
    c.input = input_.get();
    c.residual = shape.has_residual ? residual_.get() : nullptr;
    c.output = output_.get();
    c.bias = random() % 4 == 0 ? nullptr : bias_.get();
    c.zeros = zeros_.get();
    layer_.tile = shape.tile;
    layer_.kernel = kernels.tiles;
    layer_.product = kernels.product;
    layer_.most_tiles = 1 + static_cast<int64_t>(random() % 9);
    pack();
  }

  // In pieces as a team of groups would divide it.
  void run(int64_t members, int64_t groups) {
    const auto bound = [](int64_t count, int64_t part, int64_t parts) {
      return count * part / parts;
    };
    const int64_t tiles = layer_.num_tiles(), panels = layer_.panels().count;
    for (int64_t member = 0; member < members; ++member) {
      for (int64_t group = 0; group < groups; ++group) {
        const auto memory = std::make_unique_for_overwrite<float[]>(layer_.num_values());
        layer_.run({bound(tiles, member, members), bound(tiles, member + 1, members),
                    bound(panels, group, groups), bound(panels, group + 1, groups)},
                   memory.get());
      }
    }
  }

  double error() const {
    const Convolution& c = layer_.convolution;
    double worst = 0;
    for (int64_t pixel = 0; pixel < c.num_pixels(); ++pixel) {
      for (int64_t channel = 0; channel < c.out_channels; ++channel) {
        const double found = output_[pixel * c.out_channels + channel];
        worst = std::max(worst, distance(found, expected(pixel, channel)));
      }
    }
    return worst;
  }

 private:
  Values some(int64_t count) {
    std::uniform_real_distribution<float> values(-1, 1);
    auto memory = std::make_unique_for_overwrite<float[]>(count);
    for (int64_t i = 0; i < count; ++i) memory[i] = values(random_);
    return memory;
  }

  const float* kernel_of(int64_t out, int64_t in) const {
    return &weight_[(out * shape_.channels + in) * shape_.kernel * shape_.kernel];
  }

  double expected(int64_t pixel, int64_t channel) const {
    const Convolution& c = layer_.convolution;
    const int64_t x = pixel % c.out_width, y = pixel / c.out_width % c.out_height;
    const int64_t image = pixel / c.out_width / c.out_height;
    double sum = c.bias == nullptr ? 0 : bias_[channel];
    for (int64_t tap = 0; tap < c.num_taps(); ++tap) {
      const int64_t row = y - c.pad_height + tap / c.kernel_width;
      const int64_t column = x - c.pad_width + tap % c.kernel_width;
      if (row < 0 || row >= c.height || column < 0 || column >= c.width) continue;
      const float* from = &input_[((image * c.height + row) * c.width + column) * c.channels];
      for (int64_t in = 0; in < c.channels; ++in) {
        sum += double{kernel_of(channel, in)[tap]} * from[in];
      }
    }
    if (shape_.has_residual) sum += residual_[pixel * c.out_channels + channel];
    return std::max(sum, -0.5);
  }

  // [position][panel][input channel][column of the panel].
  void pack() {
    const Panels panels = layer_.panels();
    const int64_t matrix = panels.vectors * kVector * shape_.channels;
    packed_ = std::make_unique<float[]>(layer_.num_positions() * matrix);
    int64_t at = 0;
    for (int64_t panel = 0; panel < panels.count; ++panel) {
      const int64_t end = panels.start(panel + 1) * kVector;
      for (int64_t in = 0; in < shape_.channels; ++in) {
        for (int64_t out = panels.start(panel) * kVector; out < end; ++out, ++at) {
          if (out < shape_.out_channels) pack(kernel_of(out, in), &packed_[at], matrix);
        }
      }
    }
    layer_.convolution.weight = packed_.get();
  }

  void pack(const float* kernel, float* packed, int64_t next) const {
    std::vector<std::vector<double>> rows;
    for (int64_t y = 0; y < shape_.kernel; ++y) {
      Taps row{};
      std::copy_n(kernel + y * shape_.kernel, shape_.kernel, row.begin());
      rows.push_back(at_points(row, shape_));
    }
    for (int64_t x = 0; x < shape_.tile; ++x) {
      Taps column{};
      for (int64_t y = 0; y < shape_.kernel; ++y) column[y] = rows[y][x];
      const auto values = at_points(column, shape_);
      for (int64_t y = 0; y < shape_.tile; ++y) {
        packed[(y * shape_.tile + x) * next] = static_cast<float>(values[y]);
      }
    }
  }

  Shape shape_;
  std::mt19937& random_;
  WinogradLayer layer_{};
  Values input_, residual_, output_, bias_, zeros_, weight_, packed_;
};

void check_layers(const Kernels& kernels) {
  std::mt19937 random(3);
  const auto upto = [&](int64_t most) { return 1 + static_cast<int64_t>(random() % most); };
  for (int round = 0; round < 60; ++round) {
    const int64_t kernel = round % 3 == 0 ? 5 : 3, tile = round % 3 == 1 ? 4 : 6;
    const Shape shape{tile,
                      upto(2),
                      upto(40),
                      kernel - 1 + upto(12),
                      kernel - 1 + upto(12),
                      upto(100),
                      kernel,
                      static_cast<int64_t>(random() % 4),
                      random() % 2 == 0};
    Case layer(shape, kernels, random);
    layer.run(upto(3), upto(3));
    CHECK(layer.error() < 1e-4);
  }
}

TEST(layers_are_convolutions) {
  if (has_avx2()) {
    check_layers({{&read_winograd_fp32_avx2, &write_winograd_fp32_avx2},
                  {&convolve_dense_fp32_avx2, /*panel_vectors=*/1}});
  }
  if (!has_avx512()) return;
  check_layers(
      {{&read_winograd_fp32_avx512, &write_winograd_fp32_avx512}, {&convolve_dense_fp32_avx512}});
}

}  // namespace
}  // namespace corestream
#endif
