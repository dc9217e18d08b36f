// Compiled for AVX-512 F, BW, DQ and VL (cmake/kernels.cmake); called where the CPU has it.
#include "depthwise_simd.h"

namespace corestream {

void convolve_dense_fp32_avx512(const Convolution& convolution, const Piece& piece) {
  convolve_dense<FP32>(convolution, piece);
}

void convolve_depthwise_fp32_avx512(const Convolution& convolution, const Piece& piece) {
  convolve_depthwise<FP32>(convolution, piece);
}

}  // namespace corestream
