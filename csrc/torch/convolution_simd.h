// Dense convolutions: a product of matrices whose left rows are pixels, found through pointers, so
// that nothing is copied (Dukhan, The Indirect Convolution Algorithm, 2019). Included by one file
// for each kind of element and instruction set.
#pragma once

#include "dense_tile_simd.h"

namespace corestream {
namespace {

// A panel is one tile wide: of up to kMostVectors of the set's vectors, which may be half of ours.
constexpr int64_t kParts = kVector / kLanes;
static_assert(kVector % kLanes == 0);

typedef uint16_t Half __attribute__((may_alias));

// What stays in a core's second-level cache: pixels that all panels pass over, or all weights.
constexpr int64_t kCachedBytes = 256 * 1024;

// What becomes of a vector of sums of a pixel. Made once for many, and a copy of what it needs:
// that stays in registers, where a store might have changed a convolution's.
template <typename Kind>
class Finish {
 public:
  using Element = typename Kind::Element;

  explicit Finish(const Convolution& c)
      : residual_(static_cast<const Element*>(c.residual)),
        residual_pixel_(c.residual_pixel),
        output_(static_cast<Element*>(c.output)),
        output_pixel_(c.output_pixel),
        has_gelu_(c.has_gelu),
        low_(each(c.low)),
        high_(each(c.high)) {}

  // Whether there is nothing but limits.
  bool is_plain() const { return residual_ == nullptr && !has_gelu_; }

  // Of all lanes, where that is so.
  void store_limited(Floats sum, int64_t pixel, int64_t channel) const {
    Kind::narrow(output_ + pixel * output_pixel_ + channel, smaller(high_, larger(low_, sum)));
  }
  void store(Floats sum, int64_t pixel, int64_t channel, Which which) const {
    if (residual_ != nullptr) {
      sum = add(sum, Kind::widen(residual_ + pixel * residual_pixel_ + channel, which));
    }
    Kind::narrow(output_ + pixel * output_pixel_ + channel, limited(sum), which);
  }
  // Of all lanes.
  void store(Floats sum, int64_t pixel, int64_t channel) const {
    if (residual_ != nullptr) {
      sum = add(sum, Kind::widen(residual_ + pixel * residual_pixel_ + channel));
    }
    Kind::narrow(output_ + pixel * output_pixel_ + channel, limited(sum));
  }

 private:
  Floats limited(Floats sum) const {
    if (has_gelu_) sum = gelu(sum);
    // In this order NaN stays NaN, as in torch.
    return smaller(high_, larger(low_, sum));
  }

  const Element* residual_;
  int64_t residual_pixel_;
  Element* output_;
  int64_t output_pixel_;
  bool has_gelu_;
  Floats low_, high_;
};

inline Floats bias_of(const Convolution& c, int64_t channel) {
  if (c.bias == nullptr) return zero();
  return load(c.bias + channel, first_lanes(c.out_channels - channel));
}

// Stores wait for the lines that they write a part of; in a large output those are far away.
template <typename Kind>
void expect_output(const Convolution& c, int64_t pixel, int64_t channel) {
  const auto* output = static_cast<typename Kind::Element*>(c.output);
  __builtin_prefetch(output + pixel * c.output_pixel + channel, 1);
}

// Adds the products of a unit of each row, which `factor` reads, with a unit of each column.
template <typename Kind, int Rows, int Vectors, typename Factor>
[[gnu::always_inline]] inline void multiply_unit(Floats (&sums)[Rows][Vectors], const Unit* right,
                                                 const Factor& factor) {
  Units columns[Vectors];
#pragma GCC unroll 4
  for (int v = 0; v < Vectors; ++v) columns[v] = load_units(right + v * kLanes);
#pragma GCC unroll 8
  for (int row = 0; row < Rows; ++row) {
    const uint32_t left = factor(row);
#pragma GCC unroll 4
    for (int v = 0; v < Vectors; ++v) {
      sums[row][v] = Kind::multiply_add(sums[row][v], left, columns[v]);
    }
  }
}

// Two multipliers begin a product in each cycle, and take four: a low tile has fewer sums than that
// keeps busy, so it has each in parts. With the weights asked for ahead, a row of 512 by 2048
// columns on AVX2 takes 0.67 of the time.
template <int Rows, int Vectors>
constexpr int kChains = Rows * Vectors >= 8 ? 1 : 8 / (Rows * Vectors);

// Units. For one row each weight is used once, and weights are in memory's order from panel to
// panel.
constexpr int64_t kWeightsAhead = 1024;

template <int Width>
[[gnu::always_inline]] inline void expect_weights(const Unit* right) {
#pragma GCC unroll 4
  for (int64_t unit = 0; unit < Width * kLanes; unit += kVector) {
    __builtin_prefetch(right + kWeightsAhead + unit);
  }
}

template <int Rows, int Vectors, typename Visit>
[[gnu::always_inline]] inline void visit_sums(const Visit& visit) {
#pragma GCC unroll 8
  for (int row = 0; row < Rows; ++row) {
#pragma GCC unroll 4
    for (int v = 0; v < Vectors; ++v) visit(row, v);
  }
}

// Whether each lane of a tile has a channel.
template <int Vectors, typename Kind>
bool is_whole(const DenseTile<Kind>& tile) {
  return tile.first_channel + Vectors * kLanes <= tile.convolution.out_channels;
}

// The sums of all chains, with what follows the products.
template <typename Kind, int Chains, int Rows, int Vectors>
[[gnu::always_inline]] inline void store_tile(const DenseTile<Kind>& tile,
                                              Floats (&sums)[Chains][Rows][Vectors]) {
  const Convolution& c = tile.convolution;
#pragma GCC unroll 8
  for (int chain = 1; chain < Chains; ++chain) {
    visit_sums<Rows, Vectors>(
        [&](int row, int v) { sums[0][row][v] = add(sums[0][row][v], sums[chain][row][v]); });
  }
  const Finish<Kind> finish(c);
  // Copies: for all that the compiler knows, a store changes what a tile says.
  const int64_t pixel = tile.first_pixel, first = tile.first_channel;
  // One loop each: a check for each store of a plain tile costs a small layer 5 %.
  if (!is_whole<Vectors>(tile)) {
    visit_sums<Rows, Vectors>([&](int row, int v) {
      const int64_t channel = first + v * kLanes;
      finish.store(sums[0][row][v], pixel + row, channel, first_lanes(c.out_channels - channel));
    });
  } else if (finish.is_plain()) {
    visit_sums<Rows, Vectors>([&](int row, int v) {
      finish.store_limited(sums[0][row][v], pixel + row, first + v * kLanes);
    });
  } else {
    visit_sums<Rows, Vectors>(
        [&](int row, int v) { finish.store(sums[0][row][v], pixel + row, first + v * kLanes); });
  }
}

// Loops of fixed length are unrolled: else the sums are in memory before and after the products.
template <typename Kind, int Rows, int Vectors, int Width>
void multiply_tile(const DenseTile<Kind>& tile) {
  const Convolution& c = tile.convolution;
  constexpr int kParallel = kChains<Rows, Vectors>;
  Floats sums[kParallel][Rows][Vectors];
  const bool has_all = is_whole<Vectors>(tile) && c.bias != nullptr;
  // The tile after this one, if there is one: 6 to 14 % of a layer whose output is larger than the
  // caches. Beyond the last are lines that another member has written.
  const bool has_next = tile.first_pixel + Rows < tile.end_pixel;
  const int64_t expected = tile.first_pixel + (has_next ? Rows : 0);
#pragma GCC unroll 4
  for (int v = 0; v < Vectors; ++v) {
    const int64_t channel = tile.first_channel + v * kLanes;
    const Floats bias = has_all ? load(c.bias + channel) : bias_of(c, channel);
#pragma GCC unroll 8
    for (int row = 0; row < Rows; ++row) {
      sums[0][row][v] = bias;
#pragma GCC unroll 8
      for (int chain = 1; chain < kParallel; ++chain) sums[chain][row][v] = zero();
      if (v * kLanes * sizeof(typename Kind::Element) % 64 != 0) continue;
      expect_output<Kind>(c, expected + row, channel);
    }
  }
  const int64_t length = run_length(c.channels, c.kernel_width);
  const int64_t runs = num_runs(c.channels, c.kernel_height, c.kernel_width);
  const int64_t units = length / Kind::kPerUnit;
  const Unit* right = tile.weight;
  for (int64_t run = 0; run < runs; ++run) {
    const Unit* left[Rows];
#pragma GCC unroll 8
    for (int row = 0; row < Rows; ++row) {
      left[row] = reinterpret_cast<const Unit*>(tile.inputs[run][row]);
    }
    int64_t unit = 0;
    for (; unit + kParallel <= units; unit += kParallel) {
#pragma GCC unroll 8
      for (int chain = 0; chain < kParallel; ++chain, right += Width * kLanes) {
        if constexpr (Rows == 1) expect_weights<Width>(right);
        multiply_unit<Kind>(sums[chain], right, [&](int row) { return left[row][unit + chain]; });
      }
    }
    for (; unit < units; ++unit, right += Width * kLanes) {
      multiply_unit<Kind>(sums[0], right, [&](int row) { return left[row][unit]; });
    }
    if (units * Kind::kPerUnit == length) continue;
    // What lies beside the last element may be no number, even times zero.
    multiply_unit<Kind>(sums[0], right, [&](int row) {
      return uint32_t{reinterpret_cast<const Half*>(left[row] + units)[0]};
    });
    right += Width * kLanes;
  }
  store_tile(tile, sums);
}

// The first `Vectors` of a panel that is `Width` wide.
template <typename Kind, int Vectors, int Width = Vectors, int Rows = kRows<Width>>
void multiply_rows(const DenseTile<Kind>& tile, int64_t rows) {
  if constexpr (Rows > 1) {
    if (rows < Rows) return multiply_rows<Kind, Vectors, Width, Rows - 1>(tile, rows);
  }
  multiply_tile<Kind, Rows, Vectors, Width>(tile);
}

template <typename Kind, int Vectors = kMostVectors>
void multiply_vectors(const DenseTile<Kind>& tile, int64_t vectors, int64_t rows) {
  if constexpr (Vectors > kParts) {
    if (vectors < Vectors) return multiply_vectors<Kind, Vectors - kParts>(tile, vectors, rows);
  }
  if constexpr (kParts > 1) {
    // The second half of a padded vector may have no channel at all.
    const int64_t channels = tile.convolution.out_channels - tile.first_channel;
    if (channels <= (Vectors - 1) * kLanes) {
      return multiply_rows<Kind, Vectors - 1, Vectors>(tile, rows);
    }
  }
  multiply_rows<Kind, Vectors>(tile, rows);
}

template <typename Kind>
void multiply_panel(DenseTile<Kind>& tile, const Panels& panels, int64_t panel, int64_t rows) {
  const Convolution& c = tile.convolution;
  const int64_t start = panels.start(panel);
  const int64_t vectors = (panels.start(panel + 1) - start) * kParts;
  const int64_t length = run_length(c.channels, c.kernel_width);
  const int64_t units = num_runs(c.channels, c.kernel_height, c.kernel_width) *
                        ((length + Kind::kPerUnit - 1) / Kind::kPerUnit);
  tile.weight = static_cast<const Unit*>(c.weight) + start * units * kVector;
  tile.first_channel = start * kVector;
  multiply_vectors<Kind>(tile, vectors, rows);
}

// The pixels of a block in tiles of nearly equal heights: a low one takes as long as one of twice
// its height. Visits (first pixel, rows).
template <typename Visit>
void visit_tiles(int64_t begin, int64_t end, int64_t most_rows, const Visit& visit) {
  int64_t tiles = (end - begin + most_rows - 1) / most_rows;
  for (int64_t pixel = begin; pixel < end; --tiles) {
    const int64_t rows = (end - pixel + tiles - 1) / tiles;
    visit(pixel, rows);
    pixel += rows;
  }
}

template <typename Kind>
void convolve_dense(const Convolution& c, const Piece& piece) {
  const Panels panels(c.out_channels, kMostVectors / kParts);
  const int64_t rows = panels.start(1) * kParts >= 3 ? kRows<kMostVectors> : kRows<1>;
  const auto pixel_bytes = static_cast<int64_t>(c.channels * sizeof(typename Kind::Element));
  DenseTile<Kind> tile(c);
  if (pixel_bytes * c.num_taps() * c.out_channels <= kCachedBytes) {
    // A pixel's output is written at once.
    tile.end_pixel = piece.end;
    visit_tiles(piece.begin, piece.end, rows, [&](int64_t pixel, int64_t height) {
      tile.find_inputs(pixel, height);
      for (int64_t panel = piece.begin_panel; panel < piece.end_panel; ++panel) {
        multiply_panel(tile, panels, panel, height);
      }
    });
    return;
  }
  const int64_t block = larger(8 * rows, kCachedBytes / pixel_bytes);
  for (int64_t begin = piece.begin; begin < piece.end; begin += block) {
    tile.end_pixel = smaller(begin + block, piece.end);
    for (int64_t panel = piece.begin_panel; panel < piece.end_panel; ++panel) {
      visit_tiles(begin, tile.end_pixel, rows, [&](int64_t pixel, int64_t height) {
        tile.find_inputs(pixel, height);
        multiply_panel(tile, panels, panel, height);
      });
    }
  }
}

}  // namespace
}  // namespace corestream
