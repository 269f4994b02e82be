// bf16 by AVX-512's own instructions: 32 products each.
#pragma once

constexpr bool kHalfAttention = true;
constexpr int kParts = 1;

typedef __m512bh Pairs;

template <int part>
static inline Pairs ready_pairs(const std::uint16_t* weights) {
  return (Pairs)_mm512_loadu_si512(weights);
}

template <int part>
static inline Pairs pair_of(const std::uint16_t* halves) {
  std::int32_t two;
  std::memcpy(&two, halves, 4);
  return (Pairs)_mm512_set1_epi32(two);
}

static inline Floats multiply_add(Floats sum, Pairs pair, Pairs weights) {
  return (Floats)_mm512_dpbf16_ps((__m512)sum, pair, weights);
}

static inline void store_halves(std::uint16_t* to, Floats v) {
  const __m256bh halves = _mm512_cvtneps_pbh((__m512)v);
  std::memcpy(to, &halves, sizeof halves);
}

static inline bool has_avx512_bf16() {
  return processor().avx512_bf16;
}
