// What the kernels of 256-bit vectors share: 8 floats, panels of 16 columns, bytes from floats.
#pragma once

constexpr bool kTiled = false;
constexpr int kWidth = 8;
constexpr int kPanel = 16;
constexpr int kAttentionRows = 4;
constexpr int kGroups = 1;

#include "../kernels/vectors.hpp"
#include "../kernels/pairs.hpp"

static inline void store_codes(std::uint8_t* to, Floats v) {
  const __m256i whole = _mm256_cvtps_epi32(_mm256_min_ps((__m256)v, _mm256_set1_ps(255.0f)));
  const __m128i words =
      _mm_packs_epi32(_mm256_castsi256_si128(whole), _mm256_extracti128_si256(whole, 1));
  _mm_storel_epi64(reinterpret_cast<__m128i*>(to), _mm_packus_epi16(words, words));
}

static inline bool has_avx2() { return processor().avx2; }
