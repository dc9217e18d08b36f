// Compiled for AVX2 and FMA (cmake/kernels.cmake); called where the CPU has them.
#include "lstm_simd.h"

namespace corestream {

void lstm_fp32_avx2(const LstmCells& cells, int64_t begin, int64_t end) {
  finish_cells<FP32>(cells, begin, end);
}

}  // namespace corestream
