// Elements of the kernels' tensors, and which of the kernels this CPU runs.
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>

#if defined(__x86_64__)
namespace corestream {

inline bool has_avx2() { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"); }

inline bool has_avx512() {
  return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
         __builtin_cpu_supports("fma");
}

inline bool has_avx512_bf16() { return has_avx512() && __builtin_cpu_supports("avx512bf16"); }

inline float value_of(float element) { return element; }
inline float value_of(uint16_t element) { return std::bit_cast<float>(uint32_t{element} << 16); }

inline void store(float& element, float value) { element = value; }
// Cut off, not rounded: any bf16 will do.
inline void store(uint16_t& element, float value) {
  element = static_cast<uint16_t>(std::bit_cast<uint32_t>(value) >> 16);
}

// Infinite where one of them is a NaN, which a comparison would pass over.
inline double distance(double found, double wanted) {
  const double difference = std::abs(found - wanted);
  return std::isnan(difference) ? std::numeric_limits<double>::infinity() : difference;
}

}  // namespace corestream
#endif
