// Compiled for AVX-512 BF16, too (cmake/avx512.cmake); called where the CPU has it.
#include "depthwise_avx512.h"

namespace corestream {

void convolve_dense_bf16_avx512(const Convolution& convolution, const Piece& piece) {
  convolve_dense<BF16>(convolution, piece);
}

void convolve_depthwise_bf16_avx512(const Convolution& convolution, const Piece& piece) {
  convolve_depthwise<BF16>(convolution, piece);
}

}  // namespace corestream
