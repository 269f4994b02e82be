// AVX-512 with VNNI: 64 products of bytes an instruction.
#include "../kernels.hpp"

#if defined(__x86_64__)
#include <immintrin.h>

namespace miaotui {
namespace avx512_vnni {
namespace {

constexpr bool kTiled = false;

#include "avx512.hpp"
#include "../kernels/pairs.hpp"

#include "../kernels/forward.hpp"

}  // namespace
}  // namespace avx512_vnni

const Kernels kAvx512Vnni{"avx512_vnni",
                          {avx512_vnni::kPanel, 4},
                          avx512_vnni::has_avx512_vnni,
                          avx512_vnni::forward,
                          avx512_vnni::kAttentionRows,
                          avx512_vnni::kHalfAttention};

}  // namespace miaotui
#endif
