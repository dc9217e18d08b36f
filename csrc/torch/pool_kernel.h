// A pooling of channels-last images, as kernels for an instruction set compute it. Free of ATen and
// of the standard library's templates, like attention_kernel.h.
#pragma once

#include <cstdint>

namespace corestream {

// Pixels are so many elements apart; the channels of one are adjacent, and images follow each
// other without a gap.
struct Pool {
  const void* input;
  void* output;
  int64_t channels, height, width, input_pixel;
  int64_t out_height, out_width, output_pixel;
  int64_t kernel_height, kernel_width, stride_height, stride_width;
  int64_t pad_height, pad_width, dilation_height, dilation_width;
  bool is_average;  // else the largest
  bool counts_pad;  // whether averages divide by what of a window lies in the padding, too
};

// Rows of the output from `begin` to `end`, those of all images counted. The workspace is of
// width * channels floats.
using PoolKernel = void (*)(const Pool& pool, int64_t begin, int64_t end, float* workspace);

#if defined(__x86_64__)
// AVX2 and FMA.
void pool_fp32_avx2(const Pool& pool, int64_t begin, int64_t end, float* workspace);
// AVX-512 F, BW, DQ and VL; the second also AVX-512 BF16.
void pool_fp32_avx512(const Pool& pool, int64_t begin, int64_t end, float* workspace);
void pool_bf16_avx512(const Pool& pool, int64_t begin, int64_t end, float* workspace);
#endif

}  // namespace corestream
