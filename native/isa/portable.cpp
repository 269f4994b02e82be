// Any processor, in plain C++: what a new instruction set starts from.
#include "../kernels.hpp"

namespace miaotui {
namespace portable {
namespace {

constexpr bool kTiled = false;
constexpr int kWidth = 4;
constexpr int kPanel = 16;
constexpr int kRows = 2;
constexpr int kAttentionRows = 2;
constexpr int kGroups = 1;

#include "../kernels/vectors.hpp"
#include "../kernels/pairs.hpp"

struct Codes {
  const std::int8_t* at;
};
struct Fours {
  int value[4];
};

static inline Codes ready(const std::int8_t* weights) { return {weights}; }

static inline Fours fours(const std::uint8_t* codes) {
  return {{codes[0], codes[1], codes[2], codes[3]}};
}

static inline Ints multiply_add(Ints sum, Fours four, Codes codes) {
  for (int lane = 0; lane < kWidth; ++lane)
    for (int k = 0; k < 4; ++k) sum[lane] += four.value[k] * codes.at[lane * 4 + k];
  return sum;
}

static inline void store_codes(std::uint8_t* to, Floats v) {
  for (int lane = 0; lane < kWidth; ++lane) {
    const float clipped = v[lane] < 0.0f ? 0.0f : (v[lane] > 255.0f ? 255.0f : v[lane]);
    to[lane] = static_cast<std::uint8_t>(__builtin_nearbyintf(clipped));
  }
}

#include "../kernels/forward.hpp"

static bool runs_here() { return true; }

}  // namespace
}  // namespace portable

const Kernels kPortable{"portable",
                        {portable::kPanel, 4},
                        portable::runs_here,
                        portable::forward,
                        portable::kAttentionRows,
                        portable::kHalfAttention};

}  // namespace miaotui
