// Elements as kernels for AVX-512 compute with them: of 32 bits (a float) and of 16 (bf16, in pairs
// that one instruction multiplies and adds). Everything here is the including file's alone.
#pragma once

#include <immintrin.h>

#include <cstdint>

namespace corestream {
namespace {

constexpr int64_t kLanes = 16;

// What is read and written through other types than its own; a row of bf16 may begin anywhere.
typedef uint32_t Unit __attribute__((may_alias, aligned(2)));

inline int64_t smaller(int64_t left, int64_t right) { return left < right ? left : right; }
inline int64_t larger(int64_t left, int64_t right) { return left > right ? left : right; }
inline int64_t round_up(int64_t value, int64_t step) { return (value + step - 1) / step * step; }

// The first so many of 16 lanes.
inline __mmask16 first_lanes(int64_t count) {
  return count >= kLanes ? 0xffff : static_cast<__mmask16>((1u << count) - 1);
}

// e^x for x <= 0; 0 below the smallest normal number, NaN of NaN. The polynomial's error is 2e-7 of
// the result.
inline __m512 exp_nonpositive(__m512 x) {
  const __mmask16 counts = _mm512_cmp_ps_mask(x, _mm512_set1_ps(-87.0f), _CMP_NLT_UQ);
  const __m512 n = _mm512_roundscale_ps(_mm512_mul_ps(x, _mm512_set1_ps(1.44269504f)),
                                        _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  // ln 2 in two parts, so that n times the first is exact.
  __m512 rest = _mm512_fnmadd_ps(n, _mm512_set1_ps(0.693359375f), x);
  rest = _mm512_fnmadd_ps(n, _mm512_set1_ps(-2.12194440e-4f), rest);
  __m512 sum = _mm512_set1_ps(1.0f / 720);
  constexpr float kTerms[] = {1.0f / 120, 1.0f / 24, 1.0f / 6, 0.5f, 1.0f, 1.0f};
  for (const float term : kTerms) {
    sum = _mm512_fmadd_ps(sum, rest, _mm512_set1_ps(term));
  }
  return _mm512_maskz_scalef_ps(counts, sum, n);
}

// x times the normal distribution's share below x. The error of that share is 8e-8 (Abramowitz and
// Stegun, Handbook of Mathematical Functions, 7.1.26).
inline __m512 gelu(__m512 x) {
  const __m512 z = _mm512_mul_ps(_mm512_abs_ps(x), _mm512_set1_ps(0.70710678f));
  const __m512 one = _mm512_set1_ps(1.0f);
  const __m512 t = _mm512_div_ps(one, _mm512_fmadd_ps(z, _mm512_set1_ps(0.3275911f), one));
  __m512 sum = _mm512_set1_ps(1.061405429f);
  constexpr float kTerms[] = {-1.453152027f, 1.421413741f, -0.284496736f, 0.254829592f};
  for (const float term : kTerms) sum = _mm512_fmadd_ps(sum, t, _mm512_set1_ps(term));
  const __m512 decay = exp_nonpositive(_mm512_fnmadd_ps(z, z, _mm512_setzero_ps()));
  const __m512 half =
      _mm512_mul_ps(_mm512_set1_ps(0.5f), _mm512_mul_ps(_mm512_mul_ps(sum, t), decay));
  const __mmask16 is_negative = _mm512_movepi32_mask(_mm512_castps_si512(x));
  return _mm512_mul_ps(x, _mm512_mask_mov_ps(_mm512_sub_ps(one, half), is_negative, half));
}

// Elements of 32 bits: a unit is one of them.
struct FP32 {
  using Element = float;
  static constexpr int64_t kPerUnit = 1;

  static __m512 multiply_add(__m512 sum, uint32_t left, __m512i right) {
    const __m512 factor = _mm512_castsi512_ps(_mm512_set1_epi32(static_cast<int>(left)));
    return _mm512_fmadd_ps(factor, _mm512_castsi512_ps(right), sum);
  }
  static __m512 widen(const Element* from, __mmask16 which) {
    return _mm512_maskz_loadu_ps(which, from);
  }
  static void narrow(Element* to, __m512 value) { _mm512_storeu_ps(to, value); }
  static void narrow(Element* to, __m512 value, __mmask16 which) {
    _mm512_mask_storeu_ps(to, which, value);
  }
};

#if defined(__AVX512BF16__)
// Elements of 16 bits: a unit is two that are multiplied with two others and added.
struct BF16 {
  using Element = uint16_t;
  static constexpr int64_t kPerUnit = 2;

  static __m512 multiply_add(__m512 sum, uint32_t left, __m512i right) {
    const __m512i factor = _mm512_set1_epi32(static_cast<int>(left));
    return _mm512_dpbf16_ps(sum, reinterpret_cast<__m512bh>(factor),
                            reinterpret_cast<__m512bh>(right));
  }
  static __m512 widen(const Element* from, __mmask16 which) {
    const __m512i wide = _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(which, from));
    return _mm512_castsi512_ps(_mm512_slli_epi32(wide, 16));
  }
  static void narrow(Element* to, __m512 value) {
    _mm256_storeu_si256(reinterpret_cast<__m256i_u*>(to),
                        reinterpret_cast<__m256i>(_mm512_cvtneps_pbh(value)));
  }
  static void narrow(Element* to, __m512 value, __mmask16 which) {
    _mm256_mask_storeu_epi16(to, which, reinterpret_cast<__m256i>(_mm512_cvtneps_pbh(value)));
  }
};
#endif

}  // namespace
}  // namespace corestream
