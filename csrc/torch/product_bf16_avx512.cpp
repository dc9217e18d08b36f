// Compiled for AVX-512 BF16, too (cmake/kernels.cmake); called where the CPU has them.
#include "product_simd.h"

namespace corestream {

void multiply_bf16_avx512(const Product& product) { multiply_transposed<BF16>(product); }

}  // namespace corestream
