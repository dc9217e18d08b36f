// Compiled for AVX2 and FMA (cmake/kernels.cmake); called where the CPU has them.
#include "winograd_simd.h"

namespace corestream {

void read_winograd_fp32_avx2(const Convolution& convolution, const WinogradBlock& block) {
  read_winograd(convolution, block);
}

void write_winograd_fp32_avx2(const Convolution& convolution, const WinogradBlock& block) {
  write_winograd(convolution, block);
}

}  // namespace corestream
