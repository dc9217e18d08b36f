// A layer by Winograd's algorithm, one block of tiles after another. Free of ATen.
#pragma once

#include <cstdint>

#include "convolution_kernel.h"
#include "winograd_kernel.h"

namespace corestream {

struct WinogradLayer {
  int64_t tile;
  // Its weight: for each position what a dense kernel takes for the matrix there.
  Convolution convolution;
  WinogradKernel kernel;
  ConvolutionKernel product;
  int64_t most_tiles;  // of a block

  int64_t num_positions() const { return tile * tile; }
  int64_t num_tiles() const { return WinogradTiles(convolution, tile).count(); }
  Panels panels() const { return {convolution.out_channels, product.panel_vectors}; }
  // Numbers that a run needs memory for.
  int64_t num_values() const { return num_positions() * (next_input() + next_output()); }

  // Some tiles of the output, in place of pixels, by some panels.
  void run(const Piece& piece, float* values) const;

 private:
  // From a position to the next. They are a cache line more than what they hold apart, so that
  // those that are written together are not all in one set of a cache.
  int64_t next_input() const { return most_tiles * convolution.channels + kVector; }
  int64_t next_output() const { return most_tiles * convolution.out_channels + kVector; }

  void run_block(const Piece& piece, float* values) const;
};

}  // namespace corestream
