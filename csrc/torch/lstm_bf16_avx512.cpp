// Compiled for AVX-512 BF16, too (cmake/kernels.cmake); called where the CPU has them.
#include "lstm_simd.h"

namespace corestream {

void lstm_bf16_avx512(const LstmCells& cells, int64_t begin, int64_t end) {
  finish_cells<BF16>(cells, begin, end);
}

}  // namespace corestream
