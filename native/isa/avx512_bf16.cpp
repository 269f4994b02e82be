// AVX-512 with VNNI and its own products of bf16: 32 an instruction.
#include "../kernels.hpp"

#if defined(__x86_64__)
#include <immintrin.h>

namespace miaotui {
namespace avx512_bf16 {
namespace {

constexpr bool kTiled = false;

#include "avx512.hpp"
#include "avx512_halves.hpp"

#include "../kernels/forward.hpp"

static bool runs_here() { return has_avx512_bf16(); }

}  // namespace
}  // namespace avx512_bf16

const Kernels kAvx512Bf16{"avx512_bf16",
                          {avx512_bf16::kPanel, 4},
                          avx512_bf16::runs_here,
                          avx512_bf16::forward,
                          avx512_bf16::kAttentionRows,
                          avx512_bf16::kHalfAttention};

}  // namespace miaotui
#endif
