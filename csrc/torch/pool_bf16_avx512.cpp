// Compiled for AVX-512 BF16, too (cmake/kernels.cmake); called where the CPU has them.
#include "pool_simd.h"

namespace corestream {

void pool_bf16_avx512(const Pool& pool, int64_t begin, int64_t end, float* workspace) {
  pool_images<BF16>(pool, begin, end, workspace);
}

}  // namespace corestream
