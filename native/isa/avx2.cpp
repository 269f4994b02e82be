// AVX2 without VNNI. Its product of bytes (`maddubs`) adds two of them in 16 bits and saturates, so a
// panel's groups are sorted by what their weights allow (groups.hpp): the sums are exact, and the
// same as everywhere else.
#include "../kernels.hpp"

#if defined(__x86_64__)
#include <immintrin.h>

namespace miaotui {
namespace avx2 {
namespace {

#include "avx2.hpp"

constexpr int kRows = 6;

#define MIAOTUI_SORTED
#include "../kernels/forward.hpp"
#undef MIAOTUI_SORTED

constexpr int kGroupBytes = kPanel * 4;

static inline __m256i weights_at(const std::int8_t* from) {
  return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from));
}

// 16 weights as 16 bits each.
static inline __m256i wide_weights_at(const std::int8_t* from) {
  return _mm256_cvtepi8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from)));
}

// Four codes, or two wide ones, for every column.
template <class Code>
static inline __m256i everywhere(const Code* codes) {
  std::int32_t bits;
  std::memcpy(&bits, codes, sizeof bits);
  return _mm256_set1_epi32(bits);
}

// Sums of two in 16 bits to sums in 32.
static inline Ints add_pairs(Ints sum, __m256i pairs) {
  return (Ints)_mm256_add_epi32((__m256i)sum, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
}

template <int rows>
static inline void four_products(Ints (&sums)[rows][kVectors], const std::uint8_t* one,
                                 const std::uint8_t* other, int stride,
                                 const std::int8_t* weights) {
#pragma GCC unroll 16
  for (int r = 0; r < rows; ++r) {
    const std::size_t at = static_cast<std::size_t>(r) * stride;
    const __m256i codes = everywhere(one + at), more = everywhere(other + at);
#pragma GCC unroll 16
    for (int v = 0; v < kVectors; ++v)
      sums[r][v] = add_pairs(
          sums[r][v],
          _mm256_add_epi16(
              _mm256_maddubs_epi16(codes, weights_at(weights + v * 32)),
              _mm256_maddubs_epi16(more, weights_at(weights + kGroupBytes + v * 32))));
  }
}

template <int rows>
static inline void two_products(Ints (&sums)[rows][kVectors], const std::uint8_t* codes, int stride,
                                const std::int8_t* weights) {
#pragma GCC unroll 16
  for (int r = 0; r < rows; ++r) {
    const __m256i four = everywhere(codes + static_cast<std::size_t>(r) * stride);
#pragma GCC unroll 16
    for (int v = 0; v < kVectors; ++v)
      sums[r][v] =
          add_pairs(sums[r][v], _mm256_maddubs_epi16(four, weights_at(weights + v * 32)));
  }
}

// Of codes and weights of 16 bits, two of a column at a time.
template <int rows>
static inline void wide_products(Ints (&sums)[rows][kVectors], const std::uint16_t* codes,
                                 int stride, const std::int8_t* weights) {
#pragma GCC unroll 2
  for (int half = 0; half < 2; ++half) {
    __m256i columns[kVectors];
#pragma GCC unroll 16
    for (int v = 0; v < kVectors; ++v)
      columns[v] = wide_weights_at(weights + v * 32 + half * 16);
#pragma GCC unroll 16
    for (int r = 0; r < rows; ++r) {
      const __m256i two = everywhere(codes + static_cast<std::size_t>(r) * stride + half * 2);
#pragma GCC unroll 16
      for (int v = 0; v < kVectors; ++v)
        sums[r][v] =
            (Ints)_mm256_add_epi32((__m256i)sums[r][v], _mm256_madd_epi16(two, columns[v]));
    }
  }
}

template <int rows, class Out>
static inline void int8_tile(const LinearView& linear, const Input& in, int row, int panel,
                             const Out& out) {
  const std::int8_t* weights = static_cast<const std::int8_t*>(linear.weights) +
                               static_cast<std::size_t>(panel) * linear.depth * kPanel;
  const std::uint8_t* codes = in.codes + static_cast<std::size_t>(row) * in.stride;
  const std::uint16_t* wide = wide_rows<std::uint16_t>(in, row);
  const int column = panel * kPanel, groups = linear.depth / 4;
  const std::int32_t* order = linear.groups + static_cast<std::size_t>(panel) * groups;
  const GroupCounts counts = linear.counts[panel];
  Ints sums[rows][kVectors];
  begin_sums(sums, linear, column);
  int g = 0;
  for (; g < 2 * counts.four_products; g += 2, weights += 2 * kGroupBytes)
    four_products(sums, codes + order[g], codes + order[g + 1], in.stride, weights);
  for (const int end = g + counts.two_products; g < end; ++g, weights += kGroupBytes)
    two_products(sums, codes + order[g], in.stride, weights);
  for (; g < groups; ++g, weights += kGroupBytes)
    wide_products(sums, wide + order[g], in.wide_stride, weights);
  write_sums(sums, linear, in, row, column, out);
}

}  // namespace
}  // namespace avx2

const Kernels kAvx2{"avx2",
                    {avx2::kPanel, 4, 0, true},
                    avx2::has_avx2,
                    avx2::forward,
                    avx2::kAttentionRows,
                    avx2::kHalfAttention};

}  // namespace miaotui
#endif
