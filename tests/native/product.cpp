// The kernels of csrc/torch for products of small matrices, on memory that ends where those do.
#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <memory>
#include <random>

#include "elements.h"
#include "product_kernel.h"
#include "testing.h"

#if defined(__x86_64__)
namespace corestream {
namespace {

// Rows with a gap after all but the last.
template <typename Element>
struct Matrix {
  Matrix(int64_t rows, int64_t columns, int64_t distance, std::mt19937& random)
      : stride(distance),
        elements(std::make_unique_for_overwrite<Element[]>((rows - 1) * stride + columns)) {
    std::uniform_real_distribution<float> values(-1, 1);
    for (int64_t i = 0; i < (rows - 1) * stride + columns; ++i) store(elements[i], values(random));
  }

  double at(int64_t row, int64_t column) const { return value_of(elements[row * stride + column]); }

  int64_t stride;
  std::unique_ptr<Element[]> elements;
};

template <typename Element>
double error_of(ProductKernel kernel, int64_t rows, int64_t columns, int64_t depth, int64_t gap,
                std::mt19937& random) {
  const Matrix<Element> left(rows, depth, depth + gap, random);
  const Matrix<Element> right(columns, depth, depth + gap, random);
  Matrix<Element> output(rows, columns, columns + gap, random);
  const std::unique_ptr<void, decltype(&std::free)> workspace(
      std::aligned_alloc(64, (product_workspace_bytes(columns, depth) + 63) / 64 * 64), &std::free);
  kernel({left.elements.get(), right.elements.get(), output.elements.get(), left.stride,
          right.stride, output.stride, rows, columns, depth, workspace.get()});
  double worst = 0;
  for (int64_t row = 0; row < rows; ++row) {
    for (int64_t column = 0; column < columns; ++column) {
      double expected = 0;
      for (int64_t k = 0; k < depth; ++k) expected += left.at(row, k) * right.at(column, k);
      worst = std::max(worst, distance(output.at(row, column), expected));
    }
  }
  return worst;
}

template <typename Element>
void try_shapes(ProductKernel kernel, double limit) {
  std::mt19937 random(7);
  const auto upto = [&](int64_t most) { return 1 + static_cast<int64_t>(random() % most); };
  for (int turn = 0; turn < 150; ++turn) {
    const int64_t gap = turn % 2 == 0 ? 0 : 2 * upto(3);
    CHECK(error_of<Element>(kernel, upto(120), upto(120), 2 * upto(40), gap, random) < limit);
  }
}

TEST(fp32_stays_within_its_matrices_and_is_right) {
  if (has_avx2()) try_shapes<float>(&multiply_fp32_avx2, 1e-4);
  if (has_avx512()) try_shapes<float>(&multiply_fp32_avx512, 1e-4);
}

TEST(bf16_stays_within_its_matrices_and_is_right) {
  if (has_avx512_bf16()) try_shapes<uint16_t>(&multiply_bf16_avx512, 0.2);
}

}  // namespace
}  // namespace corestream
#endif
