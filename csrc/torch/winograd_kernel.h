// Convolutions of 3 x 3 and 5 x 5 by fewer multiplications: tiles of the image and the weights are
// taken to values of polynomials at some points, where a product each is what a convolution needs
// (Winograd, Arithmetic Complexity of Computations, 1980; Lavin and Gray, Fast Algorithms for
// Convolutional Neural Networks, 2016). 4 x 4 outputs take 36 multiplications a channel instead of
// 144, 2 x 2 of the larger kernel 36 instead of 100. Free of ATen and of the standard library's
// templates, like convolution_kernel.h.
#pragma once

#include <cstdint>

#include "convolution_kernel.h"

namespace corestream {

// Rows and columns of a tile of inputs, of which those of outputs are made together.
constexpr int64_t kWinogradTile = 6;
CORESTREAM_KERNEL_INLINE bool is_winograd_size(int64_t kernel) {
  return kernel == 3 || kernel == 5;
}
CORESTREAM_KERNEL_INLINE int64_t winograd_outputs(int64_t kernel) {
  return kWinogradTile - kernel + 1;
}
// Values of a tile: each is a matrix's element, of one of so many products.
constexpr int64_t kWinogradPositions = kWinogradTile * kWinogradTile;

// Points are 0, a, -a, b, -b and infinity. With a^2 = 1/2 and b^2 = 2, the numbers that they make
// are nearer to one than those of the usual 1 and 2, and errors are 0.46 of those (root mean square
// of 64 to 512 channels, against float64).
constexpr double kWinogradA = 0.70710678118654752440;
constexpr double kWinogradB = 1.41421356237309504880;

// The output's tiles: image, row and column, the last changing first.
struct WinogradTiles {
  int64_t outputs, batch, rows, columns;

  [[gnu::always_inline]] constexpr explicit WinogradTiles(const Convolution& c)
      : outputs(winograd_outputs(c.kernel_height)),
        batch(c.batch),
        rows((c.out_height + outputs - 1) / outputs),
        columns((c.out_width + outputs - 1) / outputs) {}

  CORESTREAM_KERNEL_INLINE int64_t count() const { return batch * rows * columns; }
};

// Some channels of some tiles, whose values are [position][tile][channel] of all channels,
// positions so many numbers apart.
struct WinogradBlock {
  int64_t begin, end;
  int64_t begin_channel, end_channel;
  float* values;
  int64_t next_position;
};

struct WinogradKernel {
  // Makes the values of the input's tiles.
  void (*read_tiles)(const Convolution&, const WinogradBlock&) = nullptr;
  // Makes outputs, with what follows the convolution, of the products' values.
  void (*write_tiles)(const Convolution&, const WinogradBlock&) = nullptr;

  explicit operator bool() const { return read_tiles != nullptr; }
};

#if defined(__x86_64__)
// AVX2 and FMA.
void read_winograd_fp32_avx2(const Convolution& convolution, const WinogradBlock& block);
void write_winograd_fp32_avx2(const Convolution& convolution, const WinogradBlock& block);
// AVX-512 F, BW, DQ and VL.
void read_winograd_fp32_avx512(const Convolution& convolution, const WinogradBlock& block);
void write_winograd_fp32_avx512(const Convolution& convolution, const WinogradBlock& block);
#endif

}  // namespace corestream
