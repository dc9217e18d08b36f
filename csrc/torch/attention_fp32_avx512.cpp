// Compiled for AVX-512 F, BW, DQ and VL (cmake/kernels.cmake); called where the CPU has them.
#include "attention_simd.h"

namespace corestream {

void attend_fp32_avx512(const HeadAttention& head) {
  const Workspace work = divide(head, round_up(head.num_keys, kLanes));
  attend<FP32>(head, work, static_cast<const Unit*>(head.value), head.value_stride);
}

}  // namespace corestream
