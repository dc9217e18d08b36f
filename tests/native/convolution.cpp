// The convolution kernels of csrc/torch, on memory that ends where the tensors do.
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

template <typename Element>
std::unique_ptr<Element[]> some(int64_t count, std::mt19937& random) {
  std::uniform_real_distribution<float> values(-1, 1);
  auto memory = std::make_unique_for_overwrite<Element[]>(count);
  for (int64_t i = 0; i < count; ++i) store(memory[i], values(random));
  return memory;
}

struct Shape {
  int64_t batch, channels, height, width, out_channels, kernel, stride, pad;
  bool is_depthwise, has_residual;
};

// A convolution of tensors without a gap, and what it should be.
template <typename Element>
class Case {
 public:
  Case(const Shape& shape, const ConvolutionKernel& kernel, std::mt19937& random)
      : shape_(shape), kernel_(kernel) {
    Convolution& c = convolution_;
    c.batch = shape.batch;
    c.channels = c.input_pixel = shape.channels;
    c.height = shape.height;
    c.width = shape.width;
    c.out_channels = c.output_pixel = c.residual_pixel = shape.out_channels;
    c.kernel_height = c.kernel_width = shape.kernel;
    c.stride_height = c.stride_width = shape.stride;
    c.pad_height = c.pad_width = shape.pad;
    c.dilation_height = c.dilation_width = 1;
    c.out_height = (shape.height + 2 * shape.pad - shape.kernel) / shape.stride + 1;
    c.out_width = (shape.width + 2 * shape.pad - shape.kernel) / shape.stride + 1;
    c.low = -0.5f;
    c.high = std::numeric_limits<float>::infinity();
    const int64_t outputs = c.num_pixels() * c.out_channels;
    input_ = some<Element>(c.batch * c.height * c.width * c.channels, random);
    residual_ = some<Element>(outputs, random);
    output_ = std::make_unique<Element[]>(outputs);
    bias_ = some<float>(c.out_channels, random);
    zeros_ = std::make_unique<Element[]>(run_length(c.channels, c.kernel_width));
    weight_ = some<Element>(c.out_channels * inputs_per_output() * c.num_taps(), random);
    c.input = input_.get();
    c.residual = shape.has_residual ? residual_.get() : nullptr;
    c.output = output_.get();
    c.bias = random() % 4 == 0 ? nullptr : bias_.get();
    c.has_gelu = random() % 4 == 0;
    c.zeros = zeros_.get();
    if (shape.is_depthwise) {
      pack_depthwise();
    } else {
      pack_dense();
    }
  }

  // In pieces as a team of `members` would divide it.
  void run(int64_t members, bool divides_panels) {
    const Convolution& c = convolution_;
    const int64_t rows = shape_.is_depthwise ? c.batch * c.out_height : c.num_pixels();
    const int64_t panels = Panels(c.out_channels, kernel_.panel_vectors).count;
    const auto bound = [&](int64_t count, int64_t member) { return count * member / members; };
    for (int64_t member = 0; member < members; ++member) {
      if (divides_panels) {
        kernel_.run(c, {0, rows, bound(panels, member), bound(panels, member + 1)});
      } else {
        kernel_.run(c, {bound(rows, member), bound(rows, member + 1), 0, panels});
      }
    }
  }

  double error() const {
    const Convolution& c = convolution_;
    double worst = 0;
    for (int64_t pixel = 0; pixel < c.num_pixels(); ++pixel) {
      for (int64_t channel = 0; channel < c.out_channels; ++channel) {
        const double found = value_of(output_[pixel * c.out_channels + channel]);
        worst = std::max(worst, distance(found, expected(pixel, channel)));
      }
    }
    return worst;
  }

 private:
  static int64_t round_up(int64_t channels) { return (channels + kVector - 1) / kVector * kVector; }
  int64_t inputs_per_output() const { return shape_.is_depthwise ? 1 : shape_.channels; }

  double weight(int64_t out, int64_t in, int64_t tap) const {
    return value_of(weight_[(out * inputs_per_output() + in) * convolution_.num_taps() + tap]);
  }

  double expected(int64_t pixel, int64_t channel) const {
    const Convolution& c = convolution_;
    const int64_t x = pixel % c.out_width, y = pixel / c.out_width % c.out_height;
    const int64_t image = pixel / c.out_width / c.out_height;
    double sum = c.bias == nullptr ? 0 : bias_[channel];
    for (int64_t tap = 0; tap < c.num_taps(); ++tap) {
      const int64_t row = y * c.stride_height - c.pad_height + tap / c.kernel_width;
      const int64_t column = x * c.stride_width - c.pad_width + tap % c.kernel_width;
      if (row < 0 || row >= c.height || column < 0 || column >= c.width) continue;
      const Element* from = &input_[((image * c.height + row) * c.width + column) * c.channels];
      for (int64_t in = 0; in < inputs_per_output(); ++in) {
        sum += weight(channel, in, tap) * value_of(from[shape_.is_depthwise ? channel : in]);
      }
    }
    if (shape_.has_residual) sum += value_of(residual_[pixel * c.out_channels + channel]);
    if (c.has_gelu) sum *= (1 + std::erf(sum / std::sqrt(2))) / 2;
    return std::max(sum, -0.5);
  }

  void pack_dense() {
    const Convolution& c = convolution_;
    const int64_t per_unit = 4 / sizeof(Element), length = run_length(c.channels, c.kernel_width);
    const int64_t runs = num_runs(c.channels, c.kernel_height, c.kernel_width);
    const int64_t units = (length + per_unit - 1) / per_unit;
    const Panels panels(c.out_channels, kernel_.panel_vectors);
    packed_ = std::make_unique<Element[]>(panels.vectors * kVector * runs * units * per_unit);
    int64_t at = 0;
    for (int64_t panel = 0; panel < panels.count; ++panel) {
      for (int64_t run = 0; run < runs; ++run) {
        for (int64_t unit = 0; unit < units; ++unit) {
          const int64_t end = panels.start(panel + 1) * kVector;
          for (int64_t column = panels.start(panel) * kVector; column < end; ++column) {
            for (int64_t part = 0; part < per_unit; ++part, ++at) {
              const int64_t in_run = unit * per_unit + part, element = run * length + in_run;
              if (column >= c.out_channels || in_run >= length) continue;
              store(packed_[at],
                    static_cast<float>(weight(column, element % c.channels, element / c.channels)));
            }
          }
        }
      }
    }
    convolution_.weight = packed_.get();
  }

  void pack_depthwise() {
    const Convolution& c = convolution_;
    const int64_t taps = c.num_taps();
    packed_depthwise_ = std::make_unique<float[]>(round_up(c.channels) * taps);
    for (int64_t channel = 0; channel < c.channels; ++channel) {
      float* first = &packed_depthwise_[channel / kVector * taps * kVector + channel % kVector];
      for (int64_t tap = 0; tap < taps; ++tap) {
        first[tap * kVector] = static_cast<float>(weight(channel, 0, tap));
      }
    }
    convolution_.weight = packed_depthwise_.get();
  }

  Shape shape_;
  ConvolutionKernel kernel_;
  Convolution convolution_{};
  std::unique_ptr<Element[]> input_, residual_, output_, zeros_, weight_, packed_;
  std::unique_ptr<float[]> bias_, packed_depthwise_;
};

template <typename Element>
void try_dense(const ConvolutionKernel& kernel, double limit) {
  std::mt19937 random(7);
  const auto upto = [&](int64_t most) { return 1 + static_cast<int64_t>(random() % most); };
  for (int turn = 0; turn < 150; ++turn) {
    const int64_t size = upto(turn % 5 == 0 ? 7 : 3);
    const Shape shape{upto(2),        upto(turn % 3 == 0 ? 7 : 40),
                      size + upto(6), size + upto(6),
                      upto(150),      size,
                      upto(2),        upto(4) - 1,
                      false,          turn % 2 == 0};
    Case<Element> one(shape, kernel, random);
    one.run(upto(3), turn % 4 == 1);
    CHECK(one.error() < limit);
  }
}

template <typename Element>
void try_depthwise(const ConvolutionKernel& kernel, double limit) {
  std::mt19937 random(7);
  const auto upto = [&](int64_t most) { return 1 + static_cast<int64_t>(random() % most); };
  for (int turn = 0; turn < 150; ++turn) {
    const int64_t size = turn % 2 == 0 ? 3 : 5, channels = upto(70);
    const Shape shape{upto(2), channels, upto(14), upto(14), channels,
                      size,    upto(2),  size / 2, true,     turn % 3 == 0};
    Case<Element> one(shape, kernel, random);
    one.run(upto(3), turn % 4 == 1);
    CHECK(one.error() < limit);
  }
}

TEST(fp32_stays_within_its_tensors_and_is_right) {
  if (has_avx2()) {
    try_dense<float>({&convolve_dense_fp32_avx2, 1}, 1e-4);
    try_depthwise<float>({&convolve_depthwise_fp32_avx2, 1}, 1e-5);
  }
  if (!has_avx512()) return;
  try_dense<float>({&convolve_dense_fp32_avx512}, 1e-4);
  try_depthwise<float>({&convolve_depthwise_fp32_avx512, 1}, 1e-5);
}

TEST(bf16_stays_within_its_tensors_and_is_right) {
  if (!has_avx512_bf16()) return;
  try_dense<uint16_t>({&convolve_dense_bf16_avx512}, 0.3);
  try_depthwise<uint16_t>({&convolve_depthwise_bf16_avx512, 1}, 3e-2);
}

TEST(panels_hold_every_vector_once_and_differ_by_one_at_most) {
  for (int64_t channels = 1; channels < 700; ++channels) {
    const Panels panels(channels, kWidestPanel);
    CHECK_EQ(panels.start(0), 0);
    CHECK_EQ(panels.start(panels.count), panels.vectors);
    for (int64_t panel = 0; panel < panels.count; ++panel) {
      const int64_t width = panels.start(panel + 1) - panels.start(panel);
      CHECK(width >= 1 && width <= kWidestPanel);
      CHECK(panels.start(1) - width <= 1);
    }
  }
}

}  // namespace
}  // namespace corestream
#endif
