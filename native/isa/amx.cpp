// AMX: 16 rows of 64 codes (or 32 bf16) times 16 columns an instruction; all else is AVX-512's.
//
// A panel of 64 columns is packed as for AVX-512, its depth filled up, so that 64 bytes of depth and
// 16 columns are a tile whose rows lie 256 bytes apart, whatever the format. Two tiles of rows meet
// half a panel (32 x 32 sums in four registers); a last tile of rows meets a whole one (16 x 64).
// Rows beyond the last are read (kRowStep), multiplied and dropped.
#include "../kernels.hpp"

#if defined(__x86_64__)
#include <immintrin.h>

#if defined(MIAOTUI_EMULATED_TILES)
#include "../tests/emulated_tiles.hpp"
#else
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace miaotui {
namespace amx {
namespace {

constexpr bool kTiled = true;

#include "avx512.hpp"
#include "avx512_halves.hpp"

#include "../kernels/product.hpp"

constexpr int kTileRows = 16, kTileColumns = 16, kTileBytes = 64;
constexpr int kWeightStride = kPanel * 4;
static_assert(kTileRows <= kRowStep && kTileBytes <= kColumns);

// Compilers do not all know that tile instructions read memory: all that was written is written now.
static inline void settle(const void* memory) { asm volatile("" : : "r"(memory) : "memory"); }

// This thread's tile registers, all of them 16 rows of 64 bytes while it lives.
class Tiles {
 public:
  Tiles() {
    struct alignas(64) Configuration {
      std::uint8_t palette = 1, start_row = 0, reserved[14] = {};
      std::uint16_t row_bytes[16] = {};
      std::uint8_t rows[16] = {};
    } configuration;
    static_assert(sizeof configuration == 64);
    for (int t = 0; t < 8; ++t) configuration.row_bytes[t] = 64, configuration.rows[t] = kTileRows;
    settle(&configuration);
    _tile_loadconfig(&configuration);
  }
  ~Tiles() { _tile_release(); }
  Tiles(const Tiles&) = delete;
  Tiles& operator=(const Tiles&) = delete;
};

// What one panel's tiles are made of, whatever their format.
struct Tiled {
  const LinearView& linear;
  const Input& in;
  const char* rows;      // of the input, from the first
  std::ptrdiff_t stride;  // bytes from row to row
  const char* weights;
  int steps;  // of 64 bytes each
};

// Tile numbers are part of an instruction, so that no function can take them.
#define MIAOTUI_MULTIPLY(sums, rows, columns)   \
  do {                                          \
    if constexpr (format == Format::int8)       \
      _tile_dpbusd(sums, rows, columns);        \
    else                                        \
      _tile_dpbf16ps(sums, rows, columns);      \
  } while (0)

// Values of `rows` rows and `columns` columns whose sums lie in `sums`.
template <Format format, int columns, class Out>
static inline void finish_tiles(const std::int32_t* sums, const Tiled& tiled, int row, int rows,
                                int column, const Out& out) {
  const LinearView& linear = tiled.linear;
  Floats scales[columns / kWidth], biases[columns / kWidth];
  for (int v = 0; v < columns / kWidth; ++v) {
    biases[v] = load(linear.bias + column + v * kWidth);
    if constexpr (format == Format::int8) scales[v] = load(linear.scales + column + v * kWidth);
  }
  for (int r = 0; r < rows; ++r)
    for (int v = 0; v < columns / kWidth; ++v) {
      const Ints sum = load(sums + r * columns + v * kWidth);
      if constexpr (format == Format::int8)
        out(row + r, column + v * kWidth,
            value_of(sum, scales[v], row_scale(linear, tiled.in, row + r), biases[v]));
      else
        out(row + r, column + v * kWidth, as_floats(sum) * linear.factor + biases[v]);
    }
}

static inline void zero_sums() {
  _tile_zero(0);
  _tile_zero(1);
  _tile_zero(2);
  _tile_zero(3);
}

// Two tiles of rows, half a panel. Sums of codes start at the offsets, the same for every row
// (stride 0), those of bf16 at zero.
template <Format format, class Out>
static inline void two_by_two(const Tiled& tiled, int row, int rows, const char* weights,
                              int column, const Out& out) {
  constexpr int columns = 2 * kTileColumns;
  const char* upper = tiled.rows + row * tiled.stride;
  const char* lower = upper + kTileRows * tiled.stride;
  if constexpr (format == Format::int8) {
    const std::int32_t* offsets = tiled.linear.offsets + column;
    _tile_loadd(0, offsets, 0);
    _tile_loadd(1, offsets + kTileColumns, 0);
    _tile_loadd(2, offsets, 0);
    _tile_loadd(3, offsets + kTileColumns, 0);
  } else {
    zero_sums();
  }
  for (int step = 0; step < tiled.steps; ++step) {
    _tile_loadd(4, upper + step * kTileBytes, tiled.stride);
    _tile_loadd(6, weights, kWeightStride);
    _tile_loadd(7, weights + kTileBytes, kWeightStride);
    MIAOTUI_MULTIPLY(0, 4, 6);
    MIAOTUI_MULTIPLY(1, 4, 7);
    _tile_loadd(5, lower + step * kTileBytes, tiled.stride);
    MIAOTUI_MULTIPLY(2, 5, 6);
    MIAOTUI_MULTIPLY(3, 5, 7);
    weights += kTileRows * kWeightStride;
  }
  alignas(64) std::int32_t sums[2 * kTileRows * columns];
  _tile_stored(0, sums, columns * 4);
  _tile_stored(1, sums + kTileColumns, columns * 4);
  _tile_stored(2, sums + kTileRows * columns, columns * 4);
  _tile_stored(3, sums + kTileRows * columns + kTileColumns, columns * 4);
  finish_tiles<format, columns>(sums, tiled, row, rows, column, out);
}

// One tile of rows, a whole panel.
template <Format format, class Out>
static inline void one_by_four(const Tiled& tiled, int row, int rows, int column,
                               const Out& out) {
  const char* upper = tiled.rows + row * tiled.stride;
  const char* weights = tiled.weights;
  if constexpr (format == Format::int8) {
    const std::int32_t* offsets = tiled.linear.offsets + column;
    _tile_loadd(0, offsets, 0);
    _tile_loadd(1, offsets + kTileColumns, 0);
    _tile_loadd(2, offsets + 2 * kTileColumns, 0);
    _tile_loadd(3, offsets + 3 * kTileColumns, 0);
  } else {
    zero_sums();
  }
  for (int step = 0; step < tiled.steps; ++step) {
    _tile_loadd(4, upper + step * kTileBytes, tiled.stride);
    _tile_loadd(6, weights, kWeightStride);
    MIAOTUI_MULTIPLY(0, 4, 6);
    _tile_loadd(7, weights + kTileBytes, kWeightStride);
    MIAOTUI_MULTIPLY(1, 4, 7);
    _tile_loadd(6, weights + 2 * kTileBytes, kWeightStride);
    MIAOTUI_MULTIPLY(2, 4, 6);
    _tile_loadd(7, weights + 3 * kTileBytes, kWeightStride);
    MIAOTUI_MULTIPLY(3, 4, 7);
    weights += kTileRows * kWeightStride;
  }
  alignas(64) std::int32_t sums[kTileRows * kPanel];
  _tile_stored(0, sums, kPanel * 4);
  _tile_stored(1, sums + kTileColumns, kPanel * 4);
  _tile_stored(2, sums + 2 * kTileColumns, kPanel * 4);
  _tile_stored(3, sums + 3 * kTileColumns, kPanel * 4);
  finish_tiles<format, kPanel>(sums, tiled, row, rows, column, out);
}

#undef MIAOTUI_MULTIPLY

template <Format format, class Out>
static inline void all_rows(const Tiled& tiled, int column, const Out& out) {
  settle(tiled.rows);
  int row = 0;
  for (int left = tiled.in.rows; left > kTileRows; left = tiled.in.rows - row) {
    const int rows = left < 2 * kTileRows ? left : 2 * kTileRows;
    two_by_two<format>(tiled, row, rows, tiled.weights, column, out);
    two_by_two<format>(tiled, row, rows, tiled.weights + 2 * kTileBytes,
                       column + 2 * kTileColumns, out);
    row += rows;
  }
  if (row < tiled.in.rows) one_by_four<format>(tiled, row, tiled.in.rows - row, column, out);
}

template <class Out>
static void tiled_panel(const LinearView& linear, const Input& in, int panel, const Out& out) {
  const bool int8 = linear.format == Format::int8;
  const int size = int8 ? 1 : 2;  // bytes of a weight and of an input
  const char* rows = int8 ? reinterpret_cast<const char*>(in.codes)
                          : reinterpret_cast<const char*>(in.halves);
  const char* weights = static_cast<const char*>(linear.weights) +
                        static_cast<std::size_t>(panel) * linear.depth * kPanel * size;
  const Tiled tiled{linear, in, rows, std::ptrdiff_t{in.stride} * size,
                    weights, linear.depth * size / kTileBytes};
  if (int8)
    all_rows<Format::int8>(tiled, panel * kPanel, out);
  else
    all_rows<Format::bf16>(tiled, panel * kPanel, out);
}

// Two tiles of columns at a time; the sums pass through memory, a tile has no lanes to work on.
template <class Out>
static void tiled_product(int rows, const std::uint16_t* a, int a_stride, const std::uint16_t* b,
                          int b_stride, int depth, int columns, const Out& out) {
  constexpr int step = kTileBytes / 2;  // depth of a tile
  settle(a);
  settle(b);
  for (int c = 0; c < columns; c += 2 * kTileColumns) {
    _tile_zero(0);
    _tile_zero(1);
    for (int k = 0; k < depth; k += step) {
      const std::uint16_t* pairs = b + static_cast<std::size_t>(k) * b_stride + 2 * c;
      _tile_loadd(4, a + k, std::ptrdiff_t{a_stride} * 2);
      _tile_loadd(6, pairs, std::ptrdiff_t{b_stride} * 4);
      _tile_loadd(7, pairs + step, std::ptrdiff_t{b_stride} * 4);
      _tile_dpbf16ps(0, 4, 6);
      _tile_dpbf16ps(1, 4, 7);
    }
    alignas(64) float sums[kTileRows * 2 * kTileColumns];
    _tile_stored(0, sums, 2 * kTileBytes);
    _tile_stored(1, sums + kTileColumns, 2 * kTileBytes);
    settle(sums);
    for (int r = 0; r < rows; ++r)
      for (int t = 0; t < 2 * kTileColumns; t += kWidth)
        out(r, c + t, load(sums + r * 2 * kTileColumns + t));
  }
}

#include "../kernels/forward.hpp"

static void tiled_forward(const NetworkView& net, const Chunk& chunk, const Workspace& work,
                          const Team& team) {
  const Tiles tiles;
  forward(net, chunk, work, team);
}

// A process asks Linux once for the tiles' state; what is not there is refused.
static bool tiles_are_allowed() {
#if defined(MIAOTUI_EMULATED_TILES)
  return true;
#else
  constexpr long kRequestPermission = 0x1023, kTileData = 18;
  return processor().amx &&
         syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
#endif
}

// One product against plain sums: an emulator or a hypervisor may promise what it does not keep.
static bool sums_are_exact() {
  constexpr int depth = 2 * kTileBytes, rows = 2 * kTileRows + 1;
  alignas(64) static std::int8_t weights[depth * kPanel];
  alignas(64) static std::uint8_t codes[rounded_up(rows, kRowStep) * depth];
  alignas(64) static float out[rows * kPanel], ones[kPanel], zeros[kPanel];
  alignas(64) static std::int32_t offsets[kPanel];
  for (int i = 0; i < depth * kPanel; ++i)
    weights[i] = static_cast<std::int8_t>(i * 37 % 255 - 127);
  for (int i = 0; i < rows * depth; ++i) codes[i] = static_cast<std::uint8_t>(i * 101 % 256);
  for (int c = 0; c < kPanel; ++c) ones[c] = 1.0f, offsets[c] = c - 5;
  const LinearView linear{Format::int8, depth, 1, weights, ones, zeros, offsets, 1.0f};
  {
    const Tiles tiles;
    multiply(linear, Input{nullptr, nullptr, codes, nullptr, depth, rows}, Team{},
             ToFloats{out, kPanel});
  }
  for (int r = 0; r < rows; ++r)
    for (int c = 0; c < kPanel; ++c) {
      std::int32_t sum = offsets[c];
      for (int k = 0; k < depth; ++k)
        sum += codes[r * depth + k] * weights[k / 4 * kWeightStride + c * 4 + k % 4];
      if (out[r * kPanel + c] != static_cast<float>(sum)) return false;
    }
  return true;
}

// The same of bf16, by what attention uses: products of small whole numbers, which are exact.
static bool half_sums_are_exact() {
  constexpr int depth = kTileBytes, columns = 2 * kTileColumns;
  alignas(64) static std::uint16_t rows[kTileRows * depth], pairs[depth * columns];
  alignas(64) static float out[kTileRows * columns];
  const auto number = [](int i) { return static_cast<float>(i * 37 % 13 - 6); };
  const auto half = [&](int i) {
    const float value = number(i);
    std::uint32_t bits;
    std::memcpy(&bits, &value, sizeof bits);
    return static_cast<std::uint16_t>(bits >> 16);
  };
  for (int i = 0; i < kTileRows * depth; ++i) rows[i] = half(i);
  for (int i = 0; i < depth * columns; ++i) pairs[i] = half(3 * i + 1);
  {
    const Tiles tiles;
    tiled_product(kTileRows, rows, depth, pairs, columns, depth, columns, ToFloats{out, columns});
  }
  for (int r = 0; r < kTileRows; ++r)
    for (int c = 0; c < columns; ++c) {
      float sum = 0.0f;
      for (int k = 0; k < depth; ++k)
        sum += number(r * depth + k) * number(3 * ((k / 2 * columns + c) * 2 + k % 2) + 1);
      if (out[r * columns + c] != sum) return false;
    }
  return true;
}

static bool runs_here() {
  static const bool exact = has_avx512_bf16() && tiles_are_allowed() && sums_are_exact() &&
                            half_sums_are_exact();
  return exact;
}

}  // namespace
}  // namespace amx

const Kernels kAmx{"amx",
                   {amx::kPanel, amx::kTileBytes},
                   amx::runs_here,
                   amx::tiled_forward,
                   kRowStep,
                   amx::kHalfAttention};

}  // namespace miaotui
#endif
