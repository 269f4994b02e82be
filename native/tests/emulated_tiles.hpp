// The tile instructions that isa/amx.cpp uses, in plain code, for processors without them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#undef _tile_loadconfig
#undef _tile_release
#undef _tile_loadd
#undef _tile_stored
#undef _tile_dpbusd
#undef _tile_dpbf16ps
#undef _tile_zero

namespace miaotui::emulated {
namespace {

constexpr int kTiles = 8, kTileRows = 16, kRowBytes = 64;

struct Registers {
  bool configured = false;
  alignas(64) unsigned char bytes[kTiles][kTileRows][kRowBytes];
};

thread_local Registers registers;

// Using tiles that are not configured is a fault on the processor; here it ends the program.
inline Registers& configured() {
  if (!registers.configured) __builtin_trap();
  return registers;
}

// As on the processor, configuring zeroes all tiles; 16 rows of 64 bytes are all that is asked for.
inline void load_configuration(const void* from) {
  unsigned char bytes[64];
  std::memcpy(bytes, from, sizeof bytes);
  bool expected = bytes[0] == 1 && bytes[1] == 0;
  for (int t = 0; t < kTiles; ++t)
    expected = expected && bytes[16 + 2 * t] == kRowBytes && bytes[17 + 2 * t] == 0 &&
               bytes[48 + t] == kTileRows;
  if (!expected) __builtin_trap();
  registers.configured = true;
  std::memset(registers.bytes, 0, sizeof registers.bytes);
}

inline void load(int tile, const void* base, std::ptrdiff_t stride) {
  for (int r = 0; r < kTileRows; ++r)
    std::memcpy(configured().bytes[tile][r], static_cast<const char*>(base) + r * stride, kRowBytes);
}

inline void store(int tile, void* base, std::ptrdiff_t stride) {
  for (int r = 0; r < kTileRows; ++r)
    std::memcpy(static_cast<char*>(base) + r * stride, configured().bytes[tile][r], kRowBytes);
}

// Arithmetic between registers, which no sanitizer needs to watch: watched, it would take most of the
// tests' time, as it would without vectors. Loads and stores, which may leave their buffers, are
// watched.
#define MIAOTUI_UNWATCHED \
  __attribute__((no_sanitize("address"), no_sanitize("thread"), no_sanitize("undefined")))
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC push_options
#pragma GCC optimize("O3")
#endif

// sums[m][n] += a[m][4k + i] (unsigned) * b[k][4n + i] (signed).
MIAOTUI_UNWATCHED inline void multiply(int sums, int a, int b) {
  Registers& all = configured();
  for (int m = 0; m < kTileRows; ++m) {
    auto* row = reinterpret_cast<std::int32_t*>(all.bytes[sums][m]);
    for (int k = 0; k < kTileRows; ++k) {
      const unsigned char* left = all.bytes[a][m] + 4 * k;
      const auto* right = reinterpret_cast<const std::int8_t*>(all.bytes[b][k]);
      for (int n = 0; n < kRowBytes / 4; ++n)
        row[n] += left[0] * right[4 * n] + left[1] * right[4 * n + 1] +
                  left[2] * right[4 * n + 2] + left[3] * right[4 * n + 3];
    }
  }
}

// sums[m][n] += a[m][2k + i] * b[k][2n + i], all bf16, sums in float.
MIAOTUI_UNWATCHED inline void multiply_halves(int sums, int a, int b) {
  const auto value = [](std::uint16_t half) {
    const std::uint32_t bits = static_cast<std::uint32_t>(half) << 16;
    float value;
    __builtin_memcpy(&value, &bits, sizeof value);
    return value;
  };
  Registers& all = configured();
  for (int m = 0; m < kTileRows; ++m) {
    auto* row = reinterpret_cast<float*>(all.bytes[sums][m]);
    for (int k = 0; k < kTileRows; ++k) {
      const auto* left = reinterpret_cast<const std::uint16_t*>(all.bytes[a][m]) + 2 * k;
      const auto* right = reinterpret_cast<const std::uint16_t*>(all.bytes[b][k]);
      const float even = value(left[0]), odd = value(left[1]);
      for (int n = 0; n < kRowBytes / 4; ++n) {
        row[n] += even * value(right[2 * n]);
        row[n] += odd * value(right[2 * n + 1]);
      }
    }
  }
}

#undef MIAOTUI_UNWATCHED
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC pop_options
#endif

inline void zero(int tile) { std::memset(configured().bytes[tile], 0, kTileRows * kRowBytes); }

}  // namespace
}  // namespace miaotui::emulated

#define _tile_loadconfig(from) miaotui::emulated::load_configuration(from)
#define _tile_release() (miaotui::emulated::registers.configured = false)
#define _tile_loadd(tile, base, stride) miaotui::emulated::load(tile, base, stride)
#define _tile_stored(tile, base, stride) miaotui::emulated::store(tile, base, stride)
#define _tile_dpbusd(sums, a, b) miaotui::emulated::multiply(sums, a, b)
#define _tile_dpbf16ps(sums, a, b) miaotui::emulated::multiply_halves(sums, a, b)
#define _tile_zero(tile) miaotui::emulated::zero(tile)
