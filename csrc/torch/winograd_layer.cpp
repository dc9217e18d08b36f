#include "winograd_layer.h"

#include <algorithm>
#include <limits>

namespace corestream {

void WinogradLayer::run(const Piece& piece, float* values) const {
  const int64_t tiles = piece.end - piece.begin;
  const int64_t blocks = (tiles + most_tiles - 1) / most_tiles;
  Piece block = piece;
  for (int64_t i = 0; i < blocks; ++i) {
    block.begin = piece.begin + tiles * i / blocks;
    block.end = piece.begin + tiles * (i + 1) / blocks;
    run_block(block, values);
  }
}

void WinogradLayer::run_block(const Piece& piece, float* values) const {
  const Convolution& c = convolution;
  const int64_t first = panels().start(piece.begin_panel) * kVector;
  const int64_t end = std::min(c.out_channels, panels().start(piece.end_panel) * kVector);
  float* products = values + num_positions() * next_input();
  const WinogradBlock inputs{tile, piece.begin, piece.end, 0, c.channels, values, next_input()};
  const WinogradBlock outputs{tile, piece.begin, piece.end, first, end, products, next_output()};
  kernel.read_tiles(c, inputs);
  Convolution one = product_of(piece.end - piece.begin, c.out_channels, c.channels);
  one.low = -std::numeric_limits<float>::infinity();
  one.high = std::numeric_limits<float>::infinity();
  const Piece rows{0, piece.end - piece.begin, piece.begin_panel, piece.end_panel};
  const int64_t weights = panels().vectors * kVector * c.channels;
  for (int64_t position = 0; position < num_positions(); ++position) {
    one.weight = static_cast<const float*>(c.weight) + position * weights;
    one.input = values + position * next_input();
    one.output = products + position * next_output();
    product.run(one, rows);
  }
  kernel.write_tiles(c, outputs);
}

}  // namespace corestream
