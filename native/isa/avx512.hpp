// What the kernels of AVX-512 share: vectors of 16 floats, codes by VNNI, 24 sums in registers.
#pragma once

constexpr int kWidth = 16;
constexpr int kPanel = 64;
constexpr int kRows = 6;
constexpr int kAttentionRows = 6;
constexpr int kGroups = 2;

#define MIAOTUI_AVX512
#include "../kernels/vectors.hpp"
#undef MIAOTUI_AVX512

typedef __m512i Codes;
typedef __m512i Fours;

static inline Codes ready(const std::int8_t* weights) { return _mm512_loadu_si512(weights); }

static inline Fours fours(const std::uint8_t* codes) {
  std::int32_t four;
  std::memcpy(&four, codes, 4);
  return _mm512_set1_epi32(four);
}

static inline Ints multiply_add(Ints sum, Fours four, Codes codes) {
  return (Ints)_mm512_dpbusd_epi32((__m512i)sum, four, codes);
}

static inline void store_codes(std::uint8_t* to, Floats v) {
  const __m512i near = _mm512_cvtps_epi32(_mm512_min_ps((__m512)v, _mm512_set1_ps(255.0f)));
  const __m512i whole = _mm512_max_epi32(near, _mm512_setzero_si512());
  _mm_storeu_si128(reinterpret_cast<__m128i*>(to), _mm512_cvtusepi32_epi8(whole));
}

static inline bool has_avx512_vnni() { return processor().avx512_vnni; }
