// Compiled for AVX2 and FMA (cmake/kernels.cmake); called where the CPU has them.
#include "depthwise_simd.h"

namespace corestream {

void convolve_dense_fp32_avx2(const Convolution& convolution, const Piece& piece) {
  convolve_dense<FP32>(convolution, piece);
}

void convolve_depthwise_fp32_avx2(const Convolution& convolution, const Piece& piece) {
  convolve_depthwise<FP32>(convolution, piece);
}

}  // namespace corestream
