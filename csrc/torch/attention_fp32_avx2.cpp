// Compiled for AVX2 and FMA (cmake/kernels.cmake); called where the CPU has them.
#include "attention_simd.h"

namespace corestream {

void attend_fp32_avx2(const HeadAttention& head) {
  const Workspace work = divide(head, round_up(head.num_keys, kLanes));
  attend<FP32>(head, work, static_cast<const Unit*>(head.value), head.value_stride);
}

}  // namespace corestream
