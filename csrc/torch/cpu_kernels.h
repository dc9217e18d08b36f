// Which of the kernels that are compiled for instruction sets this CPU runs.
#pragma once

#include <ATen/Version.h>
#include <c10/core/ScalarType.h>

#include <string>

namespace corestream {

#if defined(__x86_64__)
// AVX2 and FMA, or more. A user who keeps torch from it (ATEN_CPU_CAPABILITY) means us, too.
inline bool has_avx2() {
  static const bool found = at::get_cpu_capability().starts_with("AVX") &&
                            __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  return found;
}

// AVX-512 F, BW, DQ and VL.
inline bool has_avx512() {
  static const bool found =
      at::get_cpu_capability().starts_with("AVX512") && __builtin_cpu_supports("fma") &&
      __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
  return found;
}

inline bool has_avx512_bf16() {
  static const bool found = has_avx512() && __builtin_cpu_supports("avx512bf16");
  return found;
}
#endif

// The kernel for elements of that type; a null one if this CPU has none.
template <typename Kernel>
Kernel choose_kernel([[maybe_unused]] c10::ScalarType dtype, [[maybe_unused]] Kernel fp32_avx2,
                     [[maybe_unused]] Kernel fp32_avx512, [[maybe_unused]] Kernel bf16_avx512) {
#if defined(__x86_64__)
  if (dtype == c10::ScalarType::Float) {
    return has_avx512() ? fp32_avx512 : has_avx2() ? fp32_avx2 : Kernel{};
  }
  if (dtype == c10::ScalarType::BFloat16 && has_avx512_bf16()) return bf16_avx512;
#endif
  return Kernel{};
}

// Whether there are kernels for elements of that type.
inline bool has_kernels(c10::ScalarType dtype) { return choose_kernel(dtype, true, true, true); }

}  // namespace corestream
