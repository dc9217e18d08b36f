// Convolutions of 3 x 3 and 5 x 5 by fewer multiplications: tiles of the image and the weights are
// taken to values of polynomials at some points, where a product each is what a convolution needs
// (Winograd, Arithmetic Complexity of Computations, 1980; Lavin and Gray, Fast Algorithms for
// Convolutional Neural Networks, 2016). Free of ATen and of the standard library's templates, like
// convolution_kernel.h.
#pragma once

#include <cstdint>

#include "convolution_kernel.h"

namespace corestream {

// Rows and columns of a tile of inputs. With 6, 4 x 4 outputs of 3 x 3 taps are made by 36
// multiplications a channel instead of 144, or 2 x 2 of 5 x 5 instead of 100; with 4, 2 x 2 of 3 x
// 3 by 16 instead of 36: weights, 36 or 16 numbers for each kernel, are less to read.
constexpr int64_t kWidestTile = 6;
CORESTREAM_KERNEL_INLINE bool is_winograd_tile(int64_t tile, int64_t kernel) {
  return (tile == 6 && (kernel == 3 || kernel == 5)) || (tile == 4 && kernel == 3);
}

// Points of the wider are 0, a, -a, b, -b and infinity, of the other 0, 1, -1 and infinity. With
// a^2 = 1/2 and b^2 = 2, the numbers that they make are nearer to one than those of the usual 1 and
// 2, and errors are 0.46 of those (root mean square of 64 to 512 channels, against float64).
constexpr double kWinogradA = 0.70710678118654752440;
constexpr double kWinogradB = 1.41421356237309504880;

// The output's tiles: image, row and column, the last changing first.
struct WinogradTiles {
  int64_t outputs, batch, rows, columns;

  [[gnu::always_inline]] constexpr WinogradTiles(const Convolution& c, int64_t tile)
      : outputs(tile - c.kernel_height + 1),
        batch(c.batch),
        rows((c.out_height + outputs - 1) / outputs),
        columns((c.out_width + outputs - 1) / outputs) {}

  CORESTREAM_KERNEL_INLINE int64_t count() const { return batch * rows * columns; }
};

// Some channels of some tiles, whose values are [position][tile][channel] of all channels,
// positions so many numbers apart.
struct WinogradBlock {
  int64_t tile;
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
