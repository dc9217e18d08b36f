// Elements as kernels compute with them: of 32 bits (a float) and of 16 (bf16, in pairs that one
// instruction multiplies and adds). Everything here is the including file's alone.
#pragma once

#include <cstdint>

#include "simd.h"

namespace corestream {
namespace {

inline int64_t smaller(int64_t left, int64_t right) { return left < right ? left : right; }
inline int64_t larger(int64_t left, int64_t right) { return left > right ? left : right; }
inline int64_t round_up(int64_t value, int64_t step) { return (value + step - 1) / step * step; }

// e^x for x <= 0; 0 below the smallest normal number, NaN of NaN. The polynomial's error is 2e-7 of
// the result.
inline Floats exp_nonpositive(Floats x) {
  const Floats n = rounded(multiply(x, each(1.44269504f)));
  // ln 2 in two parts, so that n times the first is exact.
  Floats rest = multiply_subtract(n, each(0.693359375f), x);
  rest = multiply_subtract(n, each(-2.12194440e-4f), rest);
  Floats sum = each(1.0f / 720);
  constexpr float kTerms[] = {1.0f / 120, 1.0f / 24, 1.0f / 6, 0.5f, 1.0f, 1.0f};
  for (const float term : kTerms) sum = multiply_add(sum, rest, each(term));
  return scale_unless_below(sum, n, x, -87.0f);
}

// x times the normal distribution's share below x. The error of that share is 8e-8 (Abramowitz and
// Stegun, Handbook of Mathematical Functions, 7.1.26).
inline Floats gelu(Floats x) {
  const Floats z = multiply(absolute(x), each(0.70710678f));
  const Floats one = each(1.0f);
  const Floats t = divide(one, multiply_add(z, each(0.3275911f), one));
  Floats sum = each(1.061405429f);
  constexpr float kTerms[] = {-1.453152027f, 1.421413741f, -0.284496736f, 0.254829592f};
  for (const float term : kTerms) sum = multiply_add(sum, t, each(term));
  const Floats decay = exp_nonpositive(multiply_subtract(z, z, zero()));
  const Floats half = multiply(each(0.5f), multiply(multiply(sum, t), decay));
  return multiply(x, choose_negative(x, half, subtract(one, half)));
}

// Elements of 32 bits: a unit is one of them.
struct FP32 {
  using Element = float;
  static constexpr int64_t kPerUnit = 1;

  static Floats multiply_add(Floats sum, uint32_t left, Units right) {
    return corestream::multiply_add(each_unit(left), as_floats(right), sum);
  }
  static Floats widen(const Element* from) { return load(from); }
  static Floats widen(const Element* from, Which which) { return load(from, which); }
  static void narrow(Element* to, Floats value) { store(to, value); }
  // On AMD's CPUs with AVX2 only, a masked store takes as long as a dozen others.
  static void narrow(Element* to, Floats value, Which which) {
    if (are_all(which)) return store(to, value);
    store(to, value, which);
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
  static __m512 widen(const Element* from) {
    const __m256i narrow = _mm256_loadu_si256(reinterpret_cast<const __m256i_u*>(from));
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(narrow), 16));
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
    if (are_all(which)) return narrow(to, value);
    _mm256_mask_storeu_epi16(to, which, reinterpret_cast<__m256i>(_mm512_cvtneps_pbh(value)));
  }
};
#endif

}  // namespace
}  // namespace corestream
