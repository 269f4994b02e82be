// AVX2 without VNNI. `maddubs` would add pairs of byte products in 16 bits and saturate, so codes
// are widened to 16 bits, even and odd ones apart: exact, and the same sums as everywhere else.
#include "../kernels.hpp"

#if defined(__x86_64__)
#include <immintrin.h>

namespace miaotui {
namespace avx2 {
namespace {

#include "avx2.hpp"

constexpr int kRows = 4;

struct Codes {
  __m256i even, odd;
};
typedef Codes Fours;

static inline Codes ready(const std::int8_t* weights) {
  const __m256i bytes = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(weights));
  return {_mm256_srai_epi16(_mm256_slli_epi16(bytes, 8), 8), _mm256_srai_epi16(bytes, 8)};
}

static inline Fours fours(const std::uint8_t* codes) {
  std::int32_t four;
  std::memcpy(&four, codes, 4);
  const __m256i bytes = _mm256_set1_epi32(four);
  return {_mm256_and_si256(bytes, _mm256_set1_epi16(0x00ff)), _mm256_srli_epi16(bytes, 8)};
}

static inline Ints multiply_add(Ints sum, Fours four, Codes codes) {
  const __m256i even = _mm256_madd_epi16(four.even, codes.even);
  const __m256i odd = _mm256_madd_epi16(four.odd, codes.odd);
  return (Ints)_mm256_add_epi32((__m256i)sum, _mm256_add_epi32(even, odd));
}

#include "../kernels/forward.hpp"

}  // namespace
}  // namespace avx2

const Kernels kAvx2{"avx2",
                    {avx2::kPanel, 4},
                    avx2::has_avx2,
                    avx2::forward,
                    avx2::kAttentionRows,
                    avx2::kHalfAttention};

}  // namespace miaotui
#endif
