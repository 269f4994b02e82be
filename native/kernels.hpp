// What an instruction set gives: its forward pass, and the panel that its weights are packed in.
#pragma once

#include <cstring>

#include "network.hpp"
#include "team.hpp"

namespace miaotui {

struct Kernels {
  const char* name;
  int panel;    // columns
  bool (*runs_here)();
  void (*forward)(const NetworkView&, const Chunk&, const Workspace&, const Team&);
  int attention_rows;
};

extern const Kernels kAvx512Vnni, kAvx2, kPortable;

}  // namespace miaotui
