// The words of simd.h for AVX2 and FMA; simd_avx512.h has the comments.
#pragma once

#include <immintrin.h>

#include <cstdint>

namespace corestream {
namespace {

constexpr int64_t kLanes = 8;
// 6 rows of 2 vectors, 2 columns and a factor are 15 of the 16 registers.
template <int Vectors>
constexpr int kRows = 6;
constexpr int kMostVectors = 2;

using Floats = __m256;
using Units = __m256i;
using Which = __m256i;

typedef uint32_t Unit __attribute__((may_alias, aligned(2)));

inline Which first_lanes(int64_t count) {
  const auto limit = static_cast<int>(count < kLanes ? count : kLanes);
  return _mm256_cmpgt_epi32(_mm256_set1_epi32(limit), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}
inline bool are_all(Which which) { return _mm256_movemask_ps(_mm256_castsi256_ps(which)) == 0xff; }

inline Floats zero() { return _mm256_setzero_ps(); }
inline Floats each(float value) { return _mm256_set1_ps(value); }
inline Floats each_unit(uint32_t bits) {
  return _mm256_castsi256_ps(_mm256_set1_epi32(static_cast<int>(bits)));
}
inline Floats load(const float* from) { return _mm256_loadu_ps(from); }
inline Floats load(const float* from, Which which) { return _mm256_maskload_ps(from, which); }
inline void store(float* to, Floats value) { _mm256_storeu_ps(to, value); }
inline void store(float* to, Floats value, Which which) { _mm256_maskstore_ps(to, which, value); }

inline Units zero_units() { return _mm256_setzero_si256(); }
inline Units load_units(const Unit* from) {
  return _mm256_loadu_si256(reinterpret_cast<const __m256i_u*>(from));
}
inline Units load_units(const Unit* from, Which which) {
  return _mm256_maskload_epi32(reinterpret_cast<const int*>(from), which);
}
inline void store_units(Unit* to, Units units) {
  _mm256_storeu_si256(reinterpret_cast<__m256i_u*>(to), units);
}
inline Floats as_floats(Units units) { return _mm256_castsi256_ps(units); }

inline Floats add(Floats left, Floats right) { return _mm256_add_ps(left, right); }
inline Floats subtract(Floats left, Floats right) { return _mm256_sub_ps(left, right); }
inline Floats multiply(Floats left, Floats right) { return _mm256_mul_ps(left, right); }
inline Floats divide(Floats left, Floats right) { return _mm256_div_ps(left, right); }
inline Floats multiply_add(Floats left, Floats right, Floats sum) {
  return _mm256_fmadd_ps(left, right, sum);
}
inline Floats multiply_subtract(Floats left, Floats right, Floats sum) {
  return _mm256_fnmadd_ps(left, right, sum);
}
inline Floats larger(Floats left, Floats right) { return _mm256_max_ps(left, right); }
inline Floats smaller(Floats left, Floats right) { return _mm256_min_ps(left, right); }
inline Floats absolute(Floats value) { return _mm256_andnot_ps(each(-0.0f), value); }
inline Floats rounded(Floats value) {
  return _mm256_round_ps(value, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}
inline Floats choose(Which which, Floats yes, Floats no) {
  return _mm256_blendv_ps(no, yes, _mm256_castsi256_ps(which));
}
inline Which are_nan(Floats value) {
  return _mm256_castps_si256(_mm256_cmp_ps(value, value, _CMP_UNORD_Q));
}
inline Floats choose_negative(Floats value, Floats yes, Floats no) {
  return _mm256_blendv_ps(no, yes, value);
}
inline Floats scale_unless_below(Floats value, Floats power, Floats among, float limit) {
  const Units exponent = _mm256_add_epi32(_mm256_cvtps_epi32(power), _mm256_set1_epi32(127));
  const Floats scaled = multiply(value, as_floats(_mm256_slli_epi32(exponent, 23)));
  return _mm256_and_ps(scaled, _mm256_cmp_ps(among, each(limit), _CMP_NLT_UQ));
}
inline float largest_of(Floats value) {
  __m128 four = _mm_max_ps(_mm256_castps256_ps128(value), _mm256_extractf128_ps(value, 1));
  four = _mm_max_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_max_ss(four, _mm_movehdup_ps(four)));
}
inline float sum_of(Floats value) {
  __m128 four = _mm_add_ps(_mm256_castps256_ps128(value), _mm256_extractf128_ps(value, 1));
  four = _mm_add_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_add_ss(four, _mm_movehdup_ps(four)));
}

// Rows of units become columns.
inline void transpose(Units (&rows)[kLanes]) {
  Units pairs[8];
  for (int i = 0; i < 8; i += 2) {
    pairs[i] = _mm256_unpacklo_epi32(rows[i], rows[i + 1]);
    pairs[i + 1] = _mm256_unpackhi_epi32(rows[i], rows[i + 1]);
  }
  Units fours[8];
  for (int i = 0; i < 8; i += 4) {
    fours[i] = _mm256_unpacklo_epi64(pairs[i], pairs[i + 2]);
    fours[i + 1] = _mm256_unpackhi_epi64(pairs[i], pairs[i + 2]);
    fours[i + 2] = _mm256_unpacklo_epi64(pairs[i + 1], pairs[i + 3]);
    fours[i + 3] = _mm256_unpackhi_epi64(pairs[i + 1], pairs[i + 3]);
  }
  // fours[4 g + c] has in its half h the column 4 h + c of rows 4 g to 4 g + 3.
  for (int c = 0; c < 4; ++c) {
    rows[c] = _mm256_permute2x128_si256(fours[c], fours[4 + c], 0x20);
    rows[4 + c] = _mm256_permute2x128_si256(fours[c], fours[4 + c], 0x31);
  }
}

}  // namespace
}  // namespace corestream
