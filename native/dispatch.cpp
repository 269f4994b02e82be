// Which kernels this processor runs, the best first.
#include <stdexcept>
#include <string>
#include <vector>

#include "encoder.hpp"

namespace miaotui {
namespace {

const Kernels* const kBestFirst[] = {
#if defined(__x86_64__)
    &kAmx,
    &kAvx512Bf16,
    &kAvx512Vnni,
    &kAvxVnni,
    &kAvx2,
#elif defined(__aarch64__)
    &kNeonDot,
#endif
    &kPortable,
};

}  // namespace

std::vector<std::string> kernels_here() {
  std::vector<std::string> names;
  for (const Kernels* kernels : kBestFirst)
    if (kernels->runs_here()) names.emplace_back(kernels->name);
  return names;
}

const Kernels& kernels_for(const std::string& isa) {
  for (const Kernels* kernels : kBestFirst)
    if (kernels->runs_here() && (isa.empty() || isa == kernels->name)) return *kernels;
  std::string here;
  for (const std::string& name : kernels_here()) here += (here.empty() ? "" : ", ") + name;
  throw std::invalid_argument("no kernels for " + isa + " run on this processor; here: " + here);
}

}  // namespace miaotui
