// Compiled for AVX-512 BF16, too (cmake/kernels.cmake); called where the CPU has it.
#include "depthwise_simd.h"

namespace corestream {

void convolve_dense_bf16_avx512(const Convolution& convolution, const Piece& piece) {
  convolve_dense<BF16>(convolution, piece);
}

void convolve_depthwise_bf16_avx512(const Convolution& convolution, const Piece& piece) {
  convolve_depthwise<BF16>(convolution, piece);
}

}  // namespace corestream
