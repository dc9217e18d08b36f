// Compiled for AVX2 and FMA (cmake/kernels.cmake); called where the CPU has them.
#include "pool_simd.h"

namespace corestream {

void pool_fp32_avx2(const Pool& pool, int64_t begin, int64_t end, float* workspace) {
  pool_images<FP32>(pool, begin, end, workspace);
}

}  // namespace corestream
