// A product of two matrices, the right one transposed, as kernels for an instruction set compute
// it. Free of ATen and of the standard library's templates, like attention_kernel.h.
#pragma once

#include <cstddef>
#include <cstdint>

namespace corestream {

// output[rows][columns] = left[rows][depth] * right[columns][depth]^T. Strides are in elements,
// between rows; elements of a row are adjacent. Pairs of bf16 are read at once: depth and strides
// are then even.
struct Product {
  const void* left;
  const void* right;
  void* output;
  int64_t left_stride, right_stride, output_stride;
  int64_t rows, columns, depth;
  // product_workspace_bytes() of the same shape.
  void* workspace;
};

constexpr int64_t kProductRows = 48;  // of a block: whole tiles

// The right matrix in panels, and a block's results. Each file has its own.
static constexpr size_t product_workspace_bytes(int64_t columns, int64_t depth) {
  const int64_t padded = (columns + 15) / 16 * 16;
  return sizeof(float) * padded * (depth + kProductRows);
}

using ProductKernel = void (*)(const Product&);

#if defined(__x86_64__)
// AVX2 and FMA.
void multiply_fp32_avx2(const Product& product);
// AVX-512 F, BW, DQ and VL; the second also AVX-512 BF16.
void multiply_fp32_avx512(const Product& product);
void multiply_bf16_avx512(const Product& product);
#endif

}  // namespace corestream
