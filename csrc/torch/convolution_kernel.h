// A convolution of channels-last images, as kernels for an instruction set compute it. Free of ATen
// and of the standard library's templates, like attention_kernel.h.
#pragma once

#include <cstddef>
#include <cstdint>

// What a file compiled for an instruction set has of it is inlined, and not for the linker to give
// to others.
#define CORESTREAM_KERNEL_INLINE [[gnu::always_inline]] constexpr

namespace corestream {

constexpr int64_t kVector = 16;
// Of which kernels for AVX-512 have so many in a panel, at most; those for AVX2 have one.
constexpr int64_t kWidestPanel = 4;
// With fewer, the columns of a kernel's row are read as one run: loops over three channels are all
// overhead.
constexpr int64_t kFewChannels = 8;
// The largest kernel, in taps.
constexpr int64_t kMostTaps = 49;

// Elements of the input that are adjacent and multiplied one after another.
CORESTREAM_KERNEL_INLINE int64_t run_length(int64_t channels, int64_t kernel_width) {
  return channels < kFewChannels ? kernel_width * channels : channels;
}
CORESTREAM_KERNEL_INLINE int64_t num_runs(int64_t channels, int64_t kernel_height,
                                          int64_t kernel_width) {
  return channels < kFewChannels ? kernel_height : kernel_height * kernel_width;
}

// Output channels in vectors of 16, and these in panels of up to `most`, as even as can be: of
// four, nine vectors are 3 + 3 + 3, since a panel of one uses a third of AVX-512's multipliers.
struct Panels {
  int64_t vectors;
  int64_t count;

  [[gnu::always_inline]] constexpr Panels(int64_t channels, int64_t most)
      : vectors((channels + kVector - 1) / kVector), count((vectors + most - 1) / most) {}

  // The first vector of a panel; of the one past the last, the number of vectors.
  CORESTREAM_KERNEL_INLINE int64_t start(int64_t panel) const {
    const int64_t wider = vectors % count;
    return panel * (vectors / count) + (panel < wider ? panel : wider);
  }
};

// Pixels are so many elements apart; the channels of one are adjacent, and images follow each
// other without a gap.
struct Convolution {
  const void* input;
  // Dense: [panel][run][unit][column] in the elements' type, a unit being 32 bits of a run, whose
  // last may be half empty. Depthwise: [vector][tap][channel] in float. Columns and channels are
  // padded to whole vectors.
  const void* weight;
  const float* bias;     // null for none
  const void* residual;  // added before the limits; null for none
  void* output;
  const void* zeros;  // a run of them, or all channels of a pixel: what lies outside of the image

  int64_t batch, channels, height, width, input_pixel;
  // Depthwise: of the only image so many rows are there, row y at y % ring_rows; 0: all of each.
  int64_t ring_rows;
  int64_t out_channels, out_height, out_width, output_pixel, residual_pixel;
  int64_t kernel_height, kernel_width, stride_height, stride_width;
  int64_t pad_height, pad_width, dilation_height, dilation_width;
  float low, high;  // limits of the output
  bool has_gelu;    // applied before the limits

  CORESTREAM_KERNEL_INLINE int64_t num_taps() const { return kernel_height * kernel_width; }
  CORESTREAM_KERNEL_INLINE bool has_few_channels() const { return channels < kFewChannels; }
  CORESTREAM_KERNEL_INLINE int64_t num_pixels() const { return batch * out_height * out_width; }
  // Whether the pixels of the output are those of the input: a product of matrices.
  CORESTREAM_KERNEL_INLINE bool is_product() const {
    return num_taps() == 1 && stride_height == 1 && stride_width == 1 && pad_height == 0 &&
           pad_width == 0;
  }
};

// A product of matrices: an image of one row, and a kernel of one tap.
CORESTREAM_KERNEL_INLINE Convolution product_of(int64_t rows, int64_t columns, int64_t depth) {
  Convolution c{};
  c.batch = c.height = c.out_height = 1;
  c.kernel_height = c.kernel_width = c.stride_height = c.stride_width = 1;
  c.dilation_height = c.dilation_width = 1;
  c.width = c.out_width = rows;
  c.channels = c.input_pixel = depth;
  c.out_channels = c.output_pixel = columns;
  return c;
}

// Dense: some pixels of the output by some panels; depthwise: some rows of the output by some
// vectors of channels.
struct Piece {
  int64_t begin, end;
  int64_t begin_panel, end_panel;
};

struct ConvolutionKernel {
  void (*run)(const Convolution&, const Piece&) = nullptr;
  int64_t panel_vectors = kWidestPanel;  // of the widest; one in depthwise layers

  explicit operator bool() const { return run != nullptr; }
};

CORESTREAM_KERNEL_INLINE bool has_depthwise_kernel(int64_t kernel, int64_t stride) {
  return (kernel == 3 || kernel == 5) && (stride == 1 || stride == 2);
}

#if defined(__x86_64__)
// AVX2 and FMA.
void convolve_dense_fp32_avx2(const Convolution& convolution, const Piece& piece);
void convolve_depthwise_fp32_avx2(const Convolution& convolution, const Piece& piece);
// AVX-512 F, BW, DQ and VL; the others also AVX-512 BF16.
void convolve_dense_fp32_avx512(const Convolution& convolution, const Piece& piece);
void convolve_depthwise_fp32_avx512(const Convolution& convolution, const Piece& piece);
void convolve_dense_bf16_avx512(const Convolution& convolution, const Piece& piece);
void convolve_depthwise_bf16_avx512(const Convolution& convolution, const Piece& piece);
#endif

}  // namespace corestream
