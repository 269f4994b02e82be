// What this processor and its operating system let a program use.
#pragma once

namespace miaotui {

struct Processor {
  bool avx2 = false;  // with FMA
  bool avx_vnni = false;
  bool avx512 = false;  // F, BW, VL and DQ
  bool avx512_vnni = false;
  bool avx512_bf16 = false;
  bool amx = false;  // tiles, int8 and bf16
  bool neon_dot = false;  // SDOT
};

const Processor& processor();

}  // namespace miaotui
