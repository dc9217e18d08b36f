// Tiles of images as Winograd's products take and leave them. Included by one file for each
// instruction set.
#pragma once

#include "elements_simd.h"
#include "winograd_kernel.h"

namespace corestream {
namespace {

constexpr auto kA = static_cast<float>(kWinogradA);
constexpr auto kB = static_cast<float>(kWinogradB);
// a^2, b^2 and their sum; a^2 b^2 is one.
constexpr float kA2 = 0.5f, kB2 = 2.0f, kSum2 = 2.5f;

// Where a tile is.
struct TilePlace {
  int64_t image, row, column;  // of its first output

  TilePlace(const WinogradTiles& tiles, int64_t tile)
      : image(tile / tiles.columns / tiles.rows),
        row(tile / tiles.columns % tiles.rows * tiles.outputs),
        column(tile % tiles.columns * tiles.outputs) {}
};

// Inputs become the values of what they are the coefficients of, transposed: with m(x) the product
// of all x - point, that of a point are the coefficients of m(x) / (x - point).
[[gnu::always_inline]] inline void take_in(Floats (&to)[4], const Floats (&from)[4]) {
  to[0] = subtract(from[2], from[0]);
  to[1] = add(from[2], from[1]);
  to[2] = subtract(from[2], from[1]);
  to[3] = subtract(from[3], from[1]);
}
[[gnu::always_inline]] inline void take_in(Floats (&to)[6], const Floats (&from)[6]) {
  to[0] = add(from[0], multiply_subtract(each(kSum2), from[2], from[4]));
  const Floats even_a = multiply_subtract(each(kB2), from[2], from[4]);
  const Floats odd_a = multiply(each(kA), multiply_subtract(each(kB2), from[1], from[3]));
  to[1] = add(even_a, odd_a);
  to[2] = subtract(even_a, odd_a);
  const Floats even_b = multiply_subtract(each(kA2), from[2], from[4]);
  const Floats odd_b = multiply(each(kB), multiply_subtract(each(kA2), from[1], from[3]));
  to[3] = add(even_b, odd_b);
  to[4] = subtract(even_b, odd_b);
  to[5] = add(from[1], multiply_subtract(each(kSum2), from[3], from[5]));
}

// Values at the points become outputs: the sums of values times powers of their points.
[[gnu::always_inline]] inline void give_out(Floats (&to)[2], const Floats (&from)[4]) {
  to[0] = add(from[0], add(from[1], from[2]));
  to[1] = add(from[3], subtract(from[1], from[2]));
}
template <int64_t Outputs>
[[gnu::always_inline]] inline void give_out(Floats (&to)[Outputs], const Floats (&from)[6]) {
  static_assert(Outputs == 2 || Outputs == 4);
  const Floats even_a = add(from[1], from[2]), odd_a = subtract(from[1], from[2]);
  const Floats even_b = add(from[3], from[4]), odd_b = subtract(from[3], from[4]);
  to[0] = add(from[0], add(even_a, even_b));
  to[1] = multiply_add(each(kA), odd_a, multiply(each(kB), odd_b));
  if constexpr (Outputs == 4) {
    to[2] = multiply_add(each(kA2), even_a, multiply(each(kB2), even_b));
    to[3] = multiply_add(each(kA2 * kA), odd_a, multiply(each(kB2 * kB), odd_b));
  }
  to[Outputs - 1] = add(from[5], to[Outputs - 1]);
}

// A vector of channels in memory: all lanes where there are so many.
struct Lanes {
  Which which;
  bool are_whole;

  explicit Lanes(int64_t channels) : which(first_lanes(channels)), are_whole(channels >= kLanes) {}

  Floats load(const float* from) const {
    return are_whole ? corestream::load(from) : corestream::load(from, which);
  }
  void store(float* to, Floats value) const {
    if (are_whole) return corestream::store(to, value);
    corestream::store(to, value, which);
  }
};

// Inputs, of which some may be outside of the image: pointers to their channels.
template <int64_t Size>
class InputTile {
 public:
  InputTile(const Convolution& c, const TilePlace& place) {
    const auto* input = static_cast<const float*>(c.input);
    const auto* zeros = static_cast<const float*>(c.zeros);
    const int64_t top = place.row - c.pad_height, left = place.column - c.pad_width;
    for (int64_t y = 0; y < Size; ++y) {
      const int64_t row = top + y;
      const bool is_row = row >= 0 && row < c.height;
      const int64_t first = (place.image * c.height + row) * c.width;
      for (int64_t x = 0; x < Size; ++x) {
        const int64_t column = left + x;
        const bool is_inside = is_row && column >= 0 && column < c.width;
        pixels_[y][x] = is_inside ? input + (first + column) * c.input_pixel : zeros;
      }
    }
  }

  // Stores the values of some channels.
  void transform(int64_t channel, const Lanes& lanes, float* values, int64_t next) const {
    Floats columns[Size][Size];
    for (int64_t x = 0; x < Size; ++x) {
      Floats inputs[Size], taken[Size];
#pragma GCC unroll 6
      for (int64_t y = 0; y < Size; ++y) inputs[y] = lanes.load(pixels_[y][x] + channel);
      take_in(taken, inputs);
#pragma GCC unroll 6
      for (int64_t y = 0; y < Size; ++y) columns[y][x] = taken[y];
    }
    for (int64_t y = 0; y < Size; ++y) {
      Floats taken[Size];
      take_in(taken, columns[y]);
#pragma GCC unroll 6
      for (int64_t x = 0; x < Size; ++x) {
        lanes.store(values + (y * Size + x) * next, taken[x]);
      }
    }
  }

 private:
  const float* pixels_[Size][Size];
};

// The outputs of a tile that are in the image, with what follows the convolution.
template <int64_t Size, int64_t Outputs>
class OutputTile {
 public:
  OutputTile(const Convolution& c, const TilePlace& place)
      : c_(c),
        pixel_((place.image * c.out_height + place.row) * c.out_width + place.column),
        rows_(smaller(Outputs, c.out_height - place.row)),
        columns_(smaller(Outputs, c.out_width - place.column)),
        low_(each(c.low)),
        high_(each(c.high)) {}

  void transform(int64_t channel, const Lanes& lanes, const float* values, int64_t next) const {
    Floats rows[Outputs][Size];
    for (int64_t x = 0; x < Size; ++x) {
      Floats products[Size], given[Outputs];
#pragma GCC unroll 6
      for (int64_t y = 0; y < Size; ++y) {
        products[y] = lanes.load(values + (y * Size + x) * next);
      }
      give_out(given, products);
#pragma GCC unroll 4
      for (int64_t y = 0; y < Outputs; ++y) rows[y][x] = given[y];
    }
    const Floats bias = c_.bias == nullptr ? zero() : lanes.load(c_.bias + channel);
    for (int64_t y = 0; y < rows_; ++y) {
      Floats given[Outputs];
      give_out(given, rows[y]);
      for (int64_t x = 0; x < columns_; ++x) {
        finish(add(given[x], bias), pixel_ + y * c_.out_width + x, channel, lanes);
      }
    }
  }

 private:
  void finish(Floats sum, int64_t pixel, int64_t channel, const Lanes& lanes) const {
    if (c_.residual != nullptr) {
      const auto* residual = static_cast<const float*>(c_.residual);
      sum = add(sum, lanes.load(residual + pixel * c_.residual_pixel + channel));
    }
    // In this order NaN stays NaN, as in torch.
    const Floats limited = smaller(high_, larger(low_, sum));
    lanes.store(static_cast<float*>(c_.output) + pixel * c_.output_pixel + channel, limited);
  }

  const Convolution& c_;
  int64_t pixel_, rows_, columns_;
  Floats low_, high_;
};

template <typename Tile>
void visit_winograd(const Convolution& c, const WinogradBlock& block, int64_t channels) {
  const WinogradTiles tiles(c, block.tile);
  for (int64_t index = block.begin; index < block.end; ++index) {
    const Tile tile(c, TilePlace(tiles, index));
    float* values = block.values + (index - block.begin) * channels;
    for (int64_t channel = block.begin_channel; channel < block.end_channel; channel += kLanes) {
      const Lanes lanes(block.end_channel - channel);
      tile.transform(channel, lanes, values + channel, block.next_position);
    }
  }
}

void read_winograd(const Convolution& c, const WinogradBlock& block) {
  if (block.tile == 4) return visit_winograd<InputTile<4>>(c, block, c.channels);
  visit_winograd<InputTile<6>>(c, block, c.channels);
}

void write_winograd(const Convolution& c, const WinogradBlock& block) {
  if (block.tile == 4) return visit_winograd<OutputTile<4, 2>>(c, block, c.out_channels);
  if (c.kernel_height == 5) return visit_winograd<OutputTile<6, 2>>(c, block, c.out_channels);
  visit_winograd<OutputTile<6, 4>>(c, block, c.out_channels);
}

}  // namespace
}  // namespace corestream
