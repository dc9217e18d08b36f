// Compiled for AVX-512 F, BW, DQ and VL (cmake/kernels.cmake); called where the CPU has them.
#include "product_simd.h"

namespace corestream {

void multiply_fp32_avx512(const Product& product) { multiply_transposed<FP32>(product); }

}  // namespace corestream
