// What a step of an LSTM does after its product, as kernels for an instruction set compute it. Free
// of ATen and of the standard library's templates, like attention_kernel.h.
#pragma once

#include <cstdint>

#include "convolution_kernel.h"

namespace corestream {

// The gates of so many units are adjacent: those of the input, of forgetting, of the fresh values
// and of the output.
constexpr int64_t kNumGates = 4;
constexpr int64_t kGatesPerBlock = kNumGates * kVector;

// A step of a batch of sequences.
struct LstmCells {
  const void* gates;       // (batch, blocks, gates of a block), before their activations
  const void* first_cell;  // (batch, hidden), the state before the first step; else null
  float* cell;             // (batch, hidden), of the step before, and then of this one
  void* output;            // of the first sequence
  void* last_output;       // (batch, hidden), another copy in the last step; else null
  void* last_cell;         // (batch, hidden), the state after the last step; else null
  int64_t batch, hidden;
  int64_t gates_row, output_row;  // elements from a sequence to the next
};

// Blocks of units from `begin` to `end`.
using LstmKernel = void (*)(const LstmCells& cells, int64_t begin, int64_t end);

#if defined(__x86_64__)
// AVX2 and FMA.
void lstm_fp32_avx2(const LstmCells& cells, int64_t begin, int64_t end);
// AVX-512 F, BW, DQ and VL; the second also AVX-512 BF16.
void lstm_fp32_avx512(const LstmCells& cells, int64_t begin, int64_t end);
void lstm_bf16_avx512(const LstmCells& cells, int64_t begin, int64_t end);
#endif

}  // namespace corestream
