// The words that kernels are written in, of the instruction set that a file is compiled for. What
// they mean is that file's alone.
#pragma once

#if defined(__AVX512F__)
#include "simd_avx512.h"  // IWYU pragma: export
#else
#include "simd_avx2.h"  // IWYU pragma: export
#endif
