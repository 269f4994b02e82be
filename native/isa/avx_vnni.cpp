// AVX-VNNI, for processors that have VNNI but no AVX-512: 32 products of bytes an instruction.
#include "../kernels.hpp"

#if defined(__x86_64__)
#include <immintrin.h>

namespace miaotui {
namespace avx_vnni {
namespace {

#include "avx2.hpp"

constexpr int kRows = 6;

typedef __m256i Codes;
typedef __m256i Fours;

static inline Codes ready(const std::int8_t* weights) {
  return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(weights));
}

static inline Fours fours(const std::uint8_t* codes) {
  std::int32_t four;
  std::memcpy(&four, codes, 4);
  return _mm256_set1_epi32(four);
}

// AVX-512's encoding of the same instruction stands in where tests run on a processor that has
// only that one.
static inline Ints multiply_add(Ints sum, Fours four, Codes codes) {
#if defined(MIAOTUI_EMULATED_AVX_VNNI)
  return (Ints)_mm256_dpbusd_epi32((__m256i)sum, four, codes);
#else
  return (Ints)_mm256_dpbusd_avx_epi32((__m256i)sum, four, codes);
#endif
}

#include "../kernels/forward.hpp"

static bool runs_here() {
#if defined(MIAOTUI_EMULATED_AVX_VNNI)
  return has_avx2() && processor().avx512_vnni;
#else
  return processor().avx_vnni;
#endif
}

}  // namespace
}  // namespace avx_vnni

const Kernels kAvxVnni{"avx_vnni",
                       {avx_vnni::kPanel, 4},
                       avx_vnni::runs_here,
                       avx_vnni::forward,
                       avx_vnni::kAttentionRows,
                       avx_vnni::kHalfAttention};

}  // namespace miaotui
#endif
