// Which of the kernels that are compiled for instruction sets this CPU runs.
#pragma once

#include <ATen/Version.h>

#include <string>

namespace corestream {

#if defined(__x86_64__)
// AVX2 and FMA, or more. A user who keeps torch from it (ATEN_CPU_CAPABILITY) means us, too.
inline bool has_avx2() {
  static const bool found = at::get_cpu_capability().find("AVX") != std::string::npos &&
                            __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  return found;
}

// AVX-512 F, BW, DQ and VL.
inline bool has_avx512() {
  static const bool found = at::get_cpu_capability().find("AVX512") != std::string::npos &&
                            __builtin_cpu_supports("fma") && __builtin_cpu_supports("avx512f") &&
                            __builtin_cpu_supports("avx512bw") &&
                            __builtin_cpu_supports("avx512dq") &&
                            __builtin_cpu_supports("avx512vl");
  return found;
}

inline bool has_avx512_bf16() {
  static const bool found = has_avx512() && __builtin_cpu_supports("avx512bf16");
  return found;
}
#endif

}  // namespace corestream
