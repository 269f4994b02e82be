// Asked of the processor itself: what compilers offer for it (__builtin_cpu_supports) needs a part of
// their run-time library that not all of them have, and says no to everything without it.
#include "processor.hpp"

#if defined(__x86_64__)
#include <cpuid.h>
#elif defined(__aarch64__) && defined(__linux__)
#include <sys/auxv.h>
#endif

namespace miaotui {

#if defined(__x86_64__)

static unsigned enabled_states() {
  unsigned low, high;
  asm volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return low;
}

static Processor asked() {
  struct Leaf {
    unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
    Leaf(unsigned number, unsigned sub) { __get_cpuid_count(number, sub, &eax, &ebx, &ecx, &edx); }
  };
  const auto bit = [](unsigned word, int place) { return (word >> place & 1) != 0; };
  const Leaf first(1, 0), features(7, 0), more(7, 1);
  Processor here;
  if (!bit(first.ecx, 27)) return here;  // OSXSAVE: without it no state may be asked for
  const unsigned states = enabled_states();
  const bool wide = (states & 0x06) == 0x06;        // xmm, ymm
  const bool widest = (states & 0xe6) == 0xe6;      // and masks, zmm
  const bool tiles = (states & 0x60000) == 0x60000;  // their configuration and data
  here.avx2 = wide && bit(features.ebx, 5) && bit(first.ecx, 12);
  here.avx_vnni = here.avx2 && bit(more.eax, 4);
  here.avx512 = widest && bit(features.ebx, 16) && bit(features.ebx, 17) &&
                 bit(features.ebx, 30) && bit(features.ebx, 31);
  here.avx512_vnni = here.avx512 && bit(features.ecx, 11);
  here.avx512_bf16 = here.avx512_vnni && bit(more.eax, 5);
  here.amx = tiles && bit(features.edx, 22) && bit(features.edx, 24) && bit(features.edx, 25);
  return here;
}

#elif defined(__aarch64__) && defined(__linux__)

static Processor asked() {
  constexpr unsigned long kDotProducts = 1ul << 20;  // ASIMDDP
  Processor here;
  here.neon_dot = (getauxval(AT_HWCAP) & kDotProducts) != 0;
  return here;
}

#else

static Processor asked() { return {}; }

#endif

const Processor& processor() {
  static const Processor here = asked();
  return here;
}

}  // namespace miaotui
