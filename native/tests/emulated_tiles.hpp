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

constexpr int kTiles = 8, kTileRows = 16, kRowBytes = 64;

struct Registers {
  bool configured = false;
  unsigned char bytes[kTiles][kTileRows][kRowBytes];
};

inline thread_local Registers registers;

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

// sums[m][n] += a[m][4k + i] (unsigned) * b[k][4n + i] (signed).
inline void multiply(int sums, int a, int b) {
  Registers& all = configured();
  for (int m = 0; m < kTileRows; ++m)
    for (int n = 0; n < kRowBytes / 4; ++n) {
      std::int32_t sum;
      std::memcpy(&sum, all.bytes[sums][m] + 4 * n, 4);
      for (int k = 0; k < kTileRows; ++k)
        for (int i = 0; i < 4; ++i)
          sum += all.bytes[a][m][4 * k + i] *
                 static_cast<std::int8_t>(all.bytes[b][k][4 * n + i]);
      std::memcpy(all.bytes[sums][m] + 4 * n, &sum, 4);
    }
}

inline float float_at(const unsigned char* half) {
  const unsigned char bytes[4] = {0, 0, half[0], half[1]};
  float value;
  std::memcpy(&value, bytes, 4);
  return value;
}

// sums[m][n] += a[m][2k + i] * b[k][2n + i], all bf16, sums in float.
inline void multiply_halves(int sums, int a, int b) {
  Registers& all = configured();
  for (int m = 0; m < kTileRows; ++m)
    for (int n = 0; n < kRowBytes / 4; ++n) {
      float sum;
      std::memcpy(&sum, all.bytes[sums][m] + 4 * n, 4);
      for (int k = 0; k < kTileRows; ++k)
        for (int i = 0; i < 2; ++i)
          sum += float_at(all.bytes[a][m] + 4 * k + 2 * i) *
                 float_at(all.bytes[b][k] + 4 * n + 2 * i);
      std::memcpy(all.bytes[sums][m] + 4 * n, &sum, 4);
    }
}

inline void zero(int tile) { std::memset(configured().bytes[tile], 0, kTileRows * kRowBytes); }

}  // namespace miaotui::emulated

#define _tile_loadconfig(from) miaotui::emulated::load_configuration(from)
#define _tile_release() (miaotui::emulated::registers.configured = false)
#define _tile_loadd(tile, base, stride) miaotui::emulated::load(tile, base, stride)
#define _tile_stored(tile, base, stride) miaotui::emulated::store(tile, base, stride)
#define _tile_dpbusd(sums, a, b) miaotui::emulated::multiply(sums, a, b)
#define _tile_dpbf16ps(sums, a, b) miaotui::emulated::multiply_halves(sums, a, b)
#define _tile_zero(tile) miaotui::emulated::zero(tile)
