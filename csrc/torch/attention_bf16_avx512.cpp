// Compiled for AVX-512 BF16, too (cmake/kernels.cmake); called where the CPU has it.
#include "attention_simd.h"

namespace corestream {
namespace {

// Rows of V in pairs: each unit has a column's element of one row and of the next.
void pack_values(const HeadAttention& head, Unit* packed) {
  const auto* value = static_cast<const uint16_t*>(head.value);
  for (int64_t row = 0; row < head.num_keys; row += 2) {
    const uint16_t* from = value + row * head.value_stride;
    // An odd row out is paired with zeros.
    const __mmask16 next = row + 1 < head.num_keys ? 0xffff : 0;
    for (int64_t at = 0; at < head.head_size; at += kLanes) {
      const __m256i low = _mm256_loadu_epi16(from + at);
      const __m256i high = _mm256_maskz_loadu_epi16(next, from + head.value_stride + at);
      const __m512i pair = _mm512_or_si512(_mm512_cvtepu16_epi32(low),
                                           _mm512_slli_epi32(_mm512_cvtepu16_epi32(high), 16));
      _mm512_storeu_si512(packed + row / 2 * head.head_size + at, pair);
    }
  }
}

}  // namespace

void attend_bf16_avx512(const HeadAttention& head) {
  const Workspace work = divide(head, round_up(head.num_keys, kLanes));
  pack_values(head, work.values);
  attend<BF16>(head, work, work.values, head.head_size);
}

}  // namespace corestream
