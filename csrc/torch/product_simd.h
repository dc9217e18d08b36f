// Products with a transposed right matrix. Included by one file for each kind of element and
// instruction set.
#pragma once

#include "matrix_simd.h"
#include "product_kernel.h"

namespace corestream {
namespace {

template <typename Kind>
void multiply_transposed(const Product& product) {
  using Element = typename Kind::Element;
  const Product& p = product;
  const int64_t columns = round_up(p.columns, kLanes), units = p.depth / Kind::kPerUnit;
  auto* packed = static_cast<Unit*>(p.workspace);
  auto* results = reinterpret_cast<float*>(packed + columns * units);
  pack_rows(static_cast<const Unit*>(p.right), p.right_stride / Kind::kPerUnit, p.columns, units,
            packed);
  const int64_t stride = p.left_stride / Kind::kPerUnit;
  const auto* left = static_cast<const Unit*>(p.left);
  for (int64_t first = 0; first < p.rows; first += kProductRows) {
    const int64_t rows = smaller(kProductRows, p.rows - first);
    multiply_matrices<Kind>(rows, columns, units, left + first * stride, stride, packed, 0, units,
                            results, columns);
    for (int64_t row = 0; row < rows; ++row) {
      auto* output = static_cast<Element*>(p.output) + (first + row) * p.output_stride;
      for (int64_t at = 0; at < p.columns; at += kLanes) {
        Kind::narrow(output + at, load(results + row * columns + at), first_lanes(p.columns - at));
      }
    }
  }
}

}  // namespace
}  // namespace corestream
