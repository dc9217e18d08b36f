// Products of small matrices, in tiles of results that stay in registers. Included by one file for
// each kind of element and instruction set.
#pragma once

#include "elements_simd.h"

namespace corestream {
namespace {

constexpr int64_t kTileRows = 6;

// How many vectors wide the next panel or tile is: of the widest, its half and so on, what fits.
inline int64_t width_of(int64_t columns) {
  int64_t vectors = kMostVectors;
  while (vectors > 1 && columns < vectors * kLanes) vectors /= 2;
  return vectors;
}

// results[Rows][kLanes * Vectors] = left[Rows][depth] * right[depth][kLanes * Vectors], in units.
template <typename Kind, int Rows, int Vectors>
void tile(const Unit* left, int64_t left_stride, const Unit* right, int64_t right_stride,
          int64_t depth, float* results, int64_t results_stride) {
  Floats sums[Rows][Vectors];
  for (auto& row : sums) {
    for (auto& sum : row) sum = zero();
  }
  for (int64_t k = 0; k < depth; ++k) {
    Units columns[Vectors];
    for (int v = 0; v < Vectors; ++v) {
      columns[v] = load_units(right + k * right_stride + v * kLanes);
    }
    for (int row = 0; row < Rows; ++row) {
      const uint32_t factor = left[row * left_stride + k];
      for (int v = 0; v < Vectors; ++v) {
        sums[row][v] = Kind::multiply_add(sums[row][v], factor, columns[v]);
      }
    }
  }
  for (int row = 0; row < Rows; ++row) {
    for (int v = 0; v < Vectors; ++v) {
      store(results + row * results_stride + v * kLanes, sums[row][v]);
    }
  }
}

template <typename Kind, int Vectors>
void tile_of_rows(int64_t rows, const Unit* left, int64_t left_stride, const Unit* right,
                  int64_t right_stride, int64_t depth, float* results, int64_t results_stride) {
  const auto run = [&](auto call) {
    call(left, left_stride, right, right_stride, depth, results, results_stride);
  };
  switch (rows) {
    case 1:
      return run(tile<Kind, 1, Vectors>);
    case 2:
      return run(tile<Kind, 2, Vectors>);
    case 3:
      return run(tile<Kind, 3, Vectors>);
    case 4:
      return run(tile<Kind, 4, Vectors>);
    case 5:
      return run(tile<Kind, 5, Vectors>);
    default:
      return run(tile<Kind, 6, Vectors>);
  }
}

// results[rows][columns] = left * right, columns a multiple of kLanes. A panel's columns are
// adjacent in `right`; panels lie `panel_step` units per column apart.
template <typename Kind>
void multiply_matrices(int64_t rows, int64_t columns, int64_t depth, const Unit* left,
                       int64_t left_stride, const Unit* right, int64_t right_stride,
                       int64_t panel_step, float* results, int64_t results_stride) {
  for (int64_t column = 0; column < columns;) {
    const int64_t vectors = width_of(columns - column);
    const Unit* panel = right + column * panel_step;
    const int64_t stride = right_stride == 0 ? vectors * kLanes : right_stride;
    for (int64_t row = 0; row < rows; row += kTileRows) {
      const auto run = vectors == kMostVectors ? tile_of_rows<Kind, kMostVectors>
                       : vectors == 2          ? tile_of_rows<Kind, 2>
                                               : tile_of_rows<Kind, 1>;
      run(smaller(kTileRows, rows - row), left + row * left_stride, left_stride, panel, stride,
          depth, results + row * results_stride + column, results_stride);
    }
    column += vectors * kLanes;
  }
}

// The transpose of rows in panels: [panel][unit][rows of the panel], the last ones narrower; absent
// rows are 0.
inline void pack_rows(const Unit* from, int64_t stride, int64_t count, int64_t units,
                      Unit* packed) {
  const int64_t columns = round_up(count, kLanes);
  for (int64_t first = 0; first < columns;) {
    const int64_t width = width_of(columns - first) * kLanes;
    Unit* panel = packed + first * units;
    for (int64_t part = 0; part < width; part += kLanes) {
      for (int64_t unit = 0; unit < units; unit += kLanes) {
        const int64_t present = smaller(kLanes, units - unit);
        const Which which = first_lanes(present);
        Units rows[kLanes];
        for (int64_t row = 0; row < kLanes; ++row) {
          const int64_t index = first + part + row;
          rows[row] =
              index < count ? load_units(from + index * stride + unit, which) : zero_units();
        }
        transpose(rows);
        for (int64_t row = 0; row < present; ++row) {
          store_units(panel + (unit + row) * width + part, rows[row]);
        }
      }
    }
    first += width;
  }
}

}  // namespace
}  // namespace corestream
