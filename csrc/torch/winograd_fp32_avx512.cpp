// Compiled for AVX-512 F, BW, DQ and VL (cmake/kernels.cmake); called where the CPU has it.
#include "winograd_simd.h"

namespace corestream {

void read_winograd_fp32_avx512(const Convolution& convolution, const WinogradBlock& block) {
  read_winograd(convolution, block);
}

void write_winograd_fp32_avx512(const Convolution& convolution, const WinogradBlock& block) {
  write_winograd(convolution, block);
}

}  // namespace corestream
