// AVX-512 with VNNI and its own products of bf16: 32 an instruction.
#include "../kernels.hpp"

#if defined(__x86_64__)
#include <immintrin.h>

namespace miaotui {
namespace avx512_bf16 {

constexpr bool kTiled = false;

#include "avx512.hpp"

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

#include "../kernels/forward.hpp"

static bool runs_here() { return has_avx512_vnni() && __builtin_cpu_supports("avx512bf16"); }

}  // namespace avx512_bf16

const Kernels kAvx512Bf16{"avx512_bf16",
                          {avx512_bf16::kPanel, 4},
                          avx512_bf16::runs_here,
                          avx512_bf16::forward,
                          avx512_bf16::kAttentionRows};

}  // namespace miaotui
#endif
