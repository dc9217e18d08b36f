// softmax(Q K^T * scale + mask) V of one head with AVX-512, for each kind of element. Included by
// one file for each, which is compiled for its instructions; everything here is theirs alone.
//
// A block of queries has its scores in the core's cache, all keys at once: no rescaling as in flash
// attention, which pays where scores do not fit. Both products run on tiles of up to 6 x 64
// results, 24 of the 32 registers. K is transposed once into panels of 64 keys, so that a tile
// reads it in order; V is read as it lies, or in pairs of rows for bf16.
#pragma once

#include "attention_kernel.h"
#include "elements_avx512.h"

namespace corestream {
namespace {

inline __m512 load(const float* from) { return _mm512_loadu_ps(from); }

// How many vectors wide the next panel or tile is: 4, 2 or 1.
inline int64_t width_of(int64_t columns) { return columns >= 64 ? 4 : columns >= 32 ? 2 : 1; }

// results[Rows][16 * Vectors] = left[Rows][depth] * right[depth][16 * Vectors], in units.
template <typename Kind, int Rows, int Vectors>
void tile(const Unit* left, int64_t left_stride, const Unit* right, int64_t right_stride,
          int64_t depth, float* results, int64_t results_stride) {
  __m512 sums[Rows][Vectors];
  for (auto& row : sums) {
    for (auto& sum : row) sum = _mm512_setzero_ps();
  }
  for (int64_t k = 0; k < depth; ++k) {
    __m512i columns[Vectors];
    for (int v = 0; v < Vectors; ++v) {
      columns[v] = _mm512_loadu_si512(right + k * right_stride + v * kLanes);
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
      _mm512_storeu_ps(results + row * results_stride + v * kLanes, sums[row][v]);
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

// results[rows][columns] = left * right, columns a multiple of 16. A panel's columns are adjacent
// in `right`; panels lie `panel_step` units per column apart.
template <typename Kind>
void multiply(int64_t rows, int64_t columns, int64_t depth, const Unit* left, int64_t left_stride,
              const Unit* right, int64_t right_stride, int64_t panel_step, float* results,
              int64_t results_stride) {
  for (int64_t column = 0; column < columns;) {
    const int64_t vectors = width_of(columns - column);
    const Unit* panel = right + column * panel_step;
    const int64_t stride = right_stride == 0 ? vectors * kLanes : right_stride;
    for (int64_t row = 0; row < rows; row += kTileRows) {
      const auto run = vectors == 4   ? tile_of_rows<Kind, 4>
                       : vectors == 2 ? tile_of_rows<Kind, 2>
                                      : tile_of_rows<Kind, 1>;
      run(smaller(kTileRows, rows - row), left + row * left_stride, left_stride, panel, stride,
          depth, results + row * results_stride + column, results_stride);
    }
    column += vectors * kLanes;
  }
}

// Rows of 16 units become columns.
inline void transpose(__m512i (&rows)[16]) {
  __m512i pairs[16];
  for (int i = 0; i < 16; i += 2) {
    pairs[i] = _mm512_unpacklo_epi32(rows[i], rows[i + 1]);
    pairs[i + 1] = _mm512_unpackhi_epi32(rows[i], rows[i + 1]);
  }
  __m512i fours[16];
  for (int i = 0; i < 16; i += 4) {
    fours[i] = _mm512_unpacklo_epi64(pairs[i], pairs[i + 2]);
    fours[i + 1] = _mm512_unpackhi_epi64(pairs[i], pairs[i + 2]);
    fours[i + 2] = _mm512_unpacklo_epi64(pairs[i + 1], pairs[i + 3]);
    fours[i + 3] = _mm512_unpackhi_epi64(pairs[i + 1], pairs[i + 3]);
  }
  // fours[4 g + c] has in its lane of 128 bits l the column 4 l + c of rows 4 g to 4 g + 3.
  for (int c = 0; c < 4; ++c) {
    const __m512i even_low = _mm512_shuffle_i32x4(fours[c], fours[4 + c], 0x88);
    const __m512i even_high = _mm512_shuffle_i32x4(fours[8 + c], fours[12 + c], 0x88);
    const __m512i odd_low = _mm512_shuffle_i32x4(fours[c], fours[4 + c], 0xdd);
    const __m512i odd_high = _mm512_shuffle_i32x4(fours[8 + c], fours[12 + c], 0xdd);
    rows[c] = _mm512_shuffle_i32x4(even_low, even_high, 0x88);
    rows[4 + c] = _mm512_shuffle_i32x4(odd_low, odd_high, 0x88);
    rows[8 + c] = _mm512_shuffle_i32x4(even_low, even_high, 0xdd);
    rows[12 + c] = _mm512_shuffle_i32x4(odd_low, odd_high, 0xdd);
  }
}

// K^T in panels: [key / 64][unit][64 keys], the last ones narrower; absent keys are 0.
inline void pack_keys(const Unit* key, int64_t stride, int64_t num_keys, int64_t units,
                      Unit* packed) {
  const int64_t columns = round_up(num_keys, kLanes);
  for (int64_t first = 0; first < columns;) {
    const int64_t width = width_of(columns - first) * kLanes;
    Unit* panel = packed + first * units;
    for (int64_t part = 0; part < width; part += kLanes) {
      for (int64_t unit = 0; unit < units; unit += kLanes) {
        const int64_t present = smaller(kLanes, units - unit);
        const __mmask16 which = first_lanes(present);
        __m512i rows[16];
        for (int64_t row = 0; row < kLanes; ++row) {
          const int64_t index = first + part + row;
          rows[row] = index < num_keys
                          ? _mm512_maskz_loadu_epi32(which, key + index * stride + unit)
                          : _mm512_setzero_si512();
        }
        transpose(rows);
        for (int64_t row = 0; row < present; ++row) {
          _mm512_storeu_si512(panel + (unit + row) * width + part, rows[row]);
        }
      }
    }
    first += width;
  }
}

// Scores become weights, not yet divided by their sum, which is returned; `columns` are a multiple
// of 16, of which `num_keys` count. The weights have the elements' type and lie where scores lay.
template <typename Kind>
float weigh(float* scores, const HeadAttention& head, int64_t columns, int64_t row) {
  using Element = typename Kind::Element;
  const auto* mask = static_cast<const Element*>(head.mask);
  if (mask != nullptr) mask += row * head.mask_stride;
  const __m512 scale = _mm512_set1_ps(head.scale);
  const __m512 nothing = _mm512_set1_ps(-__builtin_inff());
  __m512 largest = nothing;
  for (int64_t column = 0; column < columns; column += kLanes) {
    const int64_t present = smaller(kLanes, head.num_keys - column);
    const __mmask16 which = first_lanes(present);
    const __m512 added = mask ? Kind::widen(mask + column, which) : _mm512_setzero_ps();
    const __m512 score = _mm512_fmadd_ps(load(scores + column), scale, added);
    const __m512 counted = _mm512_mask_mov_ps(nothing, which, score);
    _mm512_storeu_ps(scores + column, counted);
    largest = _mm512_max_ps(largest, counted);
  }
  const float most = _mm512_reduce_max_ps(largest);
  // With every key masked, as torch has it: nothing attends to anything.
  const __m512 base = _mm512_set1_ps(most > -__builtin_inff() ? most : 0.0f);
  auto* weights = reinterpret_cast<Element*>(scores);
  __m512 sum = _mm512_setzero_ps();
  for (int64_t column = 0; column < columns; column += kLanes) {
    const __m512 weight = exp_nonpositive(_mm512_sub_ps(load(scores + column), base));
    sum = _mm512_add_ps(sum, weight);
    Kind::narrow(weights + column, weight);
  }
  return _mm512_reduce_add_ps(sum);
}

struct Workspace {
  Unit* keys;
  Unit* values;
  float* scores;
  float* results;
};

inline Workspace divide(const HeadAttention& head, int64_t columns) {
  auto* start = static_cast<float*>(head.workspace);
  Workspace parts;
  parts.keys = reinterpret_cast<Unit*>(start);
  parts.values = parts.keys + columns * head.head_size;
  parts.scores = reinterpret_cast<float*>(parts.values + columns * head.head_size);
  parts.results = parts.scores + kBlockRows * columns;
  return parts;
}

// `values` are rows of units with `values_stride` between them.
template <typename Kind>
void attend(const HeadAttention& head, const Workspace& work, const Unit* values,
            int64_t values_stride) {
  using Element = typename Kind::Element;
  const int64_t columns = round_up(head.num_keys, kLanes);
  const int64_t units = head.head_size / Kind::kPerUnit;
  const int64_t depth = (head.num_keys + Kind::kPerUnit - 1) / Kind::kPerUnit;
  pack_keys(static_cast<const Unit*>(head.key), head.key_stride / Kind::kPerUnit, head.num_keys,
            units, work.keys);
  for (int64_t first = 0; first < head.num_queries; first += kBlockRows) {
    const int64_t rows = smaller(kBlockRows, head.num_queries - first);
    const int64_t query_stride = head.query_stride / Kind::kPerUnit;
    multiply<Kind>(rows, columns, units,
                   static_cast<const Unit*>(head.query) + first * query_stride, query_stride,
                   work.keys, 0, units, work.scores, columns);
    float sums[kBlockRows];
    for (int64_t row = 0; row < rows; ++row) {
      sums[row] = weigh<Kind>(work.scores + row * columns, head, columns, first + row);
    }
    multiply<Kind>(rows, head.head_size, depth, reinterpret_cast<const Unit*>(work.scores), columns,
                   values, values_stride, 1, work.results, head.head_size);
    for (int64_t row = 0; row < rows; ++row) {
      const __m512 share = _mm512_set1_ps(sums[row] > 0 ? 1.0f / sums[row] : 0.0f);
      auto* output = static_cast<Element*>(head.output) + (first + row) * head.output_stride;
      for (int64_t at = 0; at < head.head_size; at += kLanes) {
        const __m512 value = load(work.results + row * head.head_size + at);
        Kind::narrow(output + at, _mm512_mul_ps(value, share));
      }
    }
  }
}

}  // namespace
}  // namespace corestream
