// Compiled for AVX2 and FMA (cmake/kernels.cmake); called where the CPU has them.
#include "product_simd.h"

namespace corestream {

void multiply_fp32_avx2(const Product& product) { multiply_transposed<FP32>(product); }

}  // namespace corestream
