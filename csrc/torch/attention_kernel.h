// The attention of one head, as kernels for an instruction set compute it. Free of ATen and of the
// standard library's templates: what a file compiled for an instruction set shares with others,
// the linker might take from it.
#pragma once

#include <cstddef>
#include <cstdint>

namespace corestream {

constexpr int64_t kHeadStep = 16;
constexpr int64_t kBlockRows = 48;  // whole tiles

// Strides are in elements, between rows; elements of a row are adjacent.
struct HeadAttention {
  const void* query;
  const void* key;
  const void* value;
  void* output;
  int64_t query_stride;
  int64_t key_stride;
  int64_t value_stride;
  int64_t output_stride;
  int64_t num_queries;
  int64_t num_keys;
  int64_t head_size;  // a multiple of kHeadStep
  // Added to the scores, of the elements' type; null for none. A stride of 0: the same for all
  // rows.
  const void* mask;
  int64_t mask_stride;
  float scale;
  // attention_workspace_bytes() of the same shape.
  void* workspace;
};

using AttentionKernel = void (*)(const HeadAttention&);

// Keys in panels, values in pairs; a block's scores and results. Each file has its own.
static constexpr size_t attention_workspace_bytes(int64_t num_keys, int64_t head_size) {
  const int64_t columns = (num_keys + kHeadStep - 1) / kHeadStep * kHeadStep;
  return sizeof(float) * (2 * columns * head_size + kBlockRows * (columns + head_size));
}

#if defined(__x86_64__)
// AVX2 and FMA.
void attend_fp32_avx2(const HeadAttention& head);
// AVX-512 F, BW, DQ and VL; the second also AVX-512 BF16.
void attend_fp32_avx512(const HeadAttention& head);
void attend_bf16_avx512(const HeadAttention& head);
#endif

}  // namespace corestream
