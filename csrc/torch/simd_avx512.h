// The words of simd.h for AVX-512 F, BW, DQ and VL.
#pragma once

#include <immintrin.h>

#include <cstdint>

namespace corestream {
namespace {

constexpr int64_t kLanes = 16;
// Of the register file, what leaves one for a factor and one for each column of a tile: rows of a
// tile that is so many vectors wide. Tiles of equal heights go through all panels of a layer.
template <int Vectors>
constexpr int kRows = Vectors >= 3 ? 6 : 8;
// The widest tile.
constexpr int kMostVectors = 4;

using Floats = __m512;
using Units = __m512i;
using Which = __mmask16;

// What is read and written through other types than its own; a row of bf16 may begin anywhere.
typedef uint32_t Unit __attribute__((may_alias, aligned(2)));

// The first so many lanes.
inline Which first_lanes(int64_t count) {
  return count >= kLanes ? 0xffff : static_cast<Which>((1u << count) - 1);
}
inline bool are_all(Which which) { return which == 0xffff; }

inline Floats zero() { return _mm512_setzero_ps(); }
inline Floats each(float value) { return _mm512_set1_ps(value); }
inline Floats each_unit(uint32_t bits) {
  return _mm512_castsi512_ps(_mm512_set1_epi32(static_cast<int>(bits)));
}
inline Floats load(const float* from) { return _mm512_loadu_ps(from); }
inline Floats load(const float* from, Which which) { return _mm512_maskz_loadu_ps(which, from); }
inline void store(float* to, Floats value) { _mm512_storeu_ps(to, value); }
inline void store(float* to, Floats value, Which which) { _mm512_mask_storeu_ps(to, which, value); }

inline Units zero_units() { return _mm512_setzero_si512(); }
inline Units load_units(const Unit* from) { return _mm512_loadu_si512(from); }
inline Units load_units(const Unit* from, Which which) {
  return _mm512_maskz_loadu_epi32(which, from);
}
inline void store_units(Unit* to, Units units) { _mm512_storeu_si512(to, units); }
inline Floats as_floats(Units units) { return _mm512_castsi512_ps(units); }

inline Floats add(Floats left, Floats right) { return _mm512_add_ps(left, right); }
inline Floats subtract(Floats left, Floats right) { return _mm512_sub_ps(left, right); }
inline Floats multiply(Floats left, Floats right) { return _mm512_mul_ps(left, right); }
inline Floats divide(Floats left, Floats right) { return _mm512_div_ps(left, right); }
// left * right + sum, and sum - left * right.
inline Floats multiply_add(Floats left, Floats right, Floats sum) {
  return _mm512_fmadd_ps(left, right, sum);
}
inline Floats multiply_subtract(Floats left, Floats right, Floats sum) {
  return _mm512_fnmadd_ps(left, right, sum);
}
// The second if one is NaN.
inline Floats larger(Floats left, Floats right) { return _mm512_max_ps(left, right); }
inline Floats smaller(Floats left, Floats right) { return _mm512_min_ps(left, right); }
inline Floats absolute(Floats value) { return _mm512_abs_ps(value); }
inline Floats rounded(Floats value) {
  return _mm512_roundscale_ps(value, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}
inline Floats choose(Which which, Floats yes, Floats no) {
  return _mm512_mask_mov_ps(no, which, yes);
}
inline Which are_nan(Floats value) { return _mm512_cmp_ps_mask(value, value, _CMP_UNORD_Q); }
inline Floats choose_negative(Floats value, Floats yes, Floats no) {
  return choose(_mm512_movepi32_mask(_mm512_castps_si512(value)), yes, no);
}
// value * 2^power where `among` is not below the limit (NaN is not), else 0. The powers are whole.
inline Floats scale_unless_below(Floats value, Floats power, Floats among, float limit) {
  const Which counts = _mm512_cmp_ps_mask(among, each(limit), _CMP_NLT_UQ);
  return _mm512_maskz_scalef_ps(counts, value, power);
}
inline float largest_of(Floats value) { return _mm512_reduce_max_ps(value); }
inline float sum_of(Floats value) { return _mm512_reduce_add_ps(value); }

// Rows of units become columns.
inline void transpose(Units (&rows)[kLanes]) {
  Units pairs[16];
  for (int i = 0; i < 16; i += 2) {
    pairs[i] = _mm512_unpacklo_epi32(rows[i], rows[i + 1]);
    pairs[i + 1] = _mm512_unpackhi_epi32(rows[i], rows[i + 1]);
  }
  Units fours[16];
  for (int i = 0; i < 16; i += 4) {
    fours[i] = _mm512_unpacklo_epi64(pairs[i], pairs[i + 2]);
    fours[i + 1] = _mm512_unpackhi_epi64(pairs[i], pairs[i + 2]);
    fours[i + 2] = _mm512_unpacklo_epi64(pairs[i + 1], pairs[i + 3]);
    fours[i + 3] = _mm512_unpackhi_epi64(pairs[i + 1], pairs[i + 3]);
  }
  // fours[4 g + c] has in its lane of 128 bits l the column 4 l + c of rows 4 g to 4 g + 3.
  for (int c = 0; c < 4; ++c) {
    const Units even_low = _mm512_shuffle_i32x4(fours[c], fours[4 + c], 0x88);
    const Units even_high = _mm512_shuffle_i32x4(fours[8 + c], fours[12 + c], 0x88);
    const Units odd_low = _mm512_shuffle_i32x4(fours[c], fours[4 + c], 0xdd);
    const Units odd_high = _mm512_shuffle_i32x4(fours[8 + c], fours[12 + c], 0xdd);
    rows[c] = _mm512_shuffle_i32x4(even_low, even_high, 0x88);
    rows[4 + c] = _mm512_shuffle_i32x4(odd_low, odd_high, 0x88);
    rows[8 + c] = _mm512_shuffle_i32x4(even_low, even_high, 0xdd);
    rows[12 + c] = _mm512_shuffle_i32x4(odd_low, odd_high, 0xdd);
  }
}

}  // namespace
}  // namespace corestream
