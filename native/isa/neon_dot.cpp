// NEON with SDOT (Armv8.2 and newer): 16 products of signed bytes an instruction. Codes are made signed
// by taking 128 from each, which packing adds back to the offsets (kCodeShift).
#include "../kernels.hpp"

#if defined(__aarch64__)
#include <arm_neon.h>

namespace miaotui {
namespace neon_dot {
namespace {

constexpr bool kTiled = false;
constexpr int kWidth = 4;
constexpr int kPanel = 16;
constexpr int kRows = 6;
constexpr int kAttentionRows = 6;
constexpr int kGroups = 1;
constexpr int kCodeShift = 128;

#include "../kernels/vectors.hpp"
#include "../kernels/pairs.hpp"

typedef int8x16_t Codes;
typedef int8x16_t Fours;

static inline Codes ready(const std::int8_t* weights) { return vld1q_s8(weights); }

static inline Fours fours(const std::uint8_t* codes) {
  std::uint32_t four;
  std::memcpy(&four, codes, 4);
  return vreinterpretq_s8_u32(veorq_u32(vdupq_n_u32(four), vdupq_n_u32(0x80808080u)));
}

static inline Ints multiply_add(Ints sum, Fours four, Codes codes) {
  return (Ints)vdotq_s32((int32x4_t)sum, four, codes);
}

static inline void store_codes(std::uint8_t* to, Floats v) {
  const int32x4_t whole = vcvtnq_s32_f32((float32x4_t)v);  // ends at the largest there is
  const uint16x4_t words = vqmovun_s32(whole);
  const uint8x8_t bytes = vqmovn_u16(vcombine_u16(words, words));
  vst1_lane_u32(reinterpret_cast<std::uint32_t*>(to), vreinterpret_u32_u8(bytes), 0);
}

#include "../kernels/forward.hpp"

static bool runs_here() { return processor().neon_dot; }

}  // namespace
}  // namespace neon_dot

const Kernels kNeonDot{"neon_dot",
                       {neon_dot::kPanel, 4, neon_dot::kCodeShift},
                       neon_dot::runs_here,
                       neon_dot::forward,
                       neon_dot::kAttentionRows,
                       neon_dot::kHalfAttention};

}  // namespace miaotui
#endif
