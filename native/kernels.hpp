// What an instruction set gives: its forward pass, and how its weights are packed.
#pragma once

#include <cstring>

#include "network.hpp"
#include "processor.hpp"
#include "team.hpp"

namespace miaotui {

struct Kernels {
  const char* name;
  Panels panels;
  bool (*runs_here)();
  void (*forward)(const NetworkView&, const Chunk&, const Workspace&, const Team&);
  int attention_rows;
  bool half_attention;  // in bf16 it costs less than in floats
};

extern const Kernels kAmx, kAvx512Bf16, kAvx512Vnni, kAvxVnni, kAvx2, kNeonDot, kPortable;

}  // namespace miaotui
