// softmax(Q K^T * scale + mask) V of one head, for each kind of element and instruction set.
// Included by one file for each, which is compiled for its instructions; everything here is theirs
// alone.
//
// A block of queries has its scores in the core's cache, all keys at once: no rescaling as in flash
// attention, which pays where scores do not fit. Both products run on tiles of up to 6 x 64
// results (AVX-512: 24 of the 32 registers; AVX2: 6 x 16, 12 of 16). K is transposed once into
// panels as wide as a tile, so that it reads them in order; V is read as it lies, or in pairs of
// rows for bf16.
#pragma once

#include "attention_kernel.h"
#include "matrix_simd.h"

namespace corestream {
namespace {

// Scores become weights, not yet divided by their sum, which is returned; `columns` are a multiple
// of kLanes, of which `num_keys` count. The weights have the elements' type and lie where scores
// lay.
template <typename Kind>
float weigh(float* scores, const HeadAttention& head, int64_t columns, int64_t row) {
  using Element = typename Kind::Element;
  const auto* mask = static_cast<const Element*>(head.mask);
  if (mask != nullptr) mask += row * head.mask_stride;
  const Floats scale = each(head.scale);
  const Floats nothing = each(-__builtin_inff());
  Floats largest = nothing;
  for (int64_t column = 0; column < columns; column += kLanes) {
    const int64_t present = smaller(kLanes, head.num_keys - column);
    const Which which = first_lanes(present);
    const Floats added = mask ? Kind::widen(mask + column, which) : zero();
    const Floats score = multiply_add(load(scores + column), scale, added);
    const Floats counted = choose(which, score, nothing);
    store(scores + column, counted);
    largest = larger(largest, counted);
  }
  const float most = largest_of(largest);
  // With every key masked, as torch has it: nothing attends to anything.
  const Floats base = each(most > -__builtin_inff() ? most : 0.0f);
  auto* weights = reinterpret_cast<Element*>(scores);
  Floats sum = zero();
  for (int64_t column = 0; column < columns; column += kLanes) {
    const Floats weight = exp_nonpositive(subtract(load(scores + column), base));
    sum = add(sum, weight);
    Kind::narrow(weights + column, weight);
  }
  return sum_of(sum);
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
  pack_rows(static_cast<const Unit*>(head.key), head.key_stride / Kind::kPerUnit, head.num_keys,
            units, work.keys);
  for (int64_t first = 0; first < head.num_queries; first += kBlockRows) {
    const int64_t rows = smaller(kBlockRows, head.num_queries - first);
    const int64_t query_stride = head.query_stride / Kind::kPerUnit;
    multiply_matrices<Kind>(rows, columns, units,
                            static_cast<const Unit*>(head.query) + first * query_stride,
                            query_stride, work.keys, 0, units, work.scores, columns);
    float sums[kBlockRows];
    for (int64_t row = 0; row < rows; ++row) {
      sums[row] = weigh<Kind>(work.scores + row * columns, head, columns, first + row);
    }
    multiply_matrices<Kind>(rows, head.head_size, depth, reinterpret_cast<const Unit*>(work.scores),
                            columns, values, values_stride, 1, work.results, head.head_size);
    for (int64_t row = 0; row < rows; ++row) {
      const Floats share = each(sums[row] > 0 ? 1.0f / sums[row] : 0.0f);
      auto* output = static_cast<Element*>(head.output) + (first + row) * head.output_stride;
      for (int64_t at = 0; at < head.head_size; at += kLanes) {
        const Floats value = load(work.results + row * head.head_size + at);
        Kind::narrow(output + at, multiply(value, share));
      }
    }
  }
}

}  // namespace
}  // namespace corestream
