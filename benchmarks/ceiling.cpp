// What one core does at most: the widest multiply-adds there are, on registers alone. Prints a name
// and 1e9 operations a second (a multiply and an add are two) a line.
#include <chrono>
#include <cstdio>

#if defined(__x86_64__)
#include <immintrin.h>
#endif
#if defined(__AMX_INT8__)
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace {

double best_seconds(void (*burn)(long), long rounds) {
  double best = 1e9;
  for (int repeat = 0; repeat < 100; ++repeat) {  // short ones: other work takes the core between
    const auto began = std::chrono::steady_clock::now();
    burn(rounds);
    const std::chrono::duration<double> took = std::chrono::steady_clock::now() - began;
    best = took.count() < best ? took.count() : best;
  }
  return best;
}

constexpr int kSums = 12;
constexpr long kRounds = 100000;

void report(const char* name, void (*burn)(long), double operations) {
  burn(kRounds / 10);
  std::printf("%s %.1f\n", name, operations * kSums * kRounds / best_seconds(burn, kRounds) / 1e9);
}

#if defined(__AMX_INT8__)
// Four tiles of sums, as many as a product keeps; three products of each a round.
void int8_amx(long rounds) {
  for (long r = 0; r < rounds; ++r)
    for (int i = 0; i < kSums / 4; ++i) {
      _tile_dpbusd(0, 4, 6);
      _tile_dpbusd(1, 4, 7);
      _tile_dpbusd(2, 5, 6);
      _tile_dpbusd(3, 5, 7);
    }
}

bool tiles_are_ready() {
  constexpr long kRequestPermission = 0x1023, kTileData = 18;
  if (syscall(SYS_arch_prctl, kRequestPermission, kTileData) != 0) return false;
  alignas(64) static unsigned char configuration[64] = {1};
  for (int t = 0; t < 8; ++t) configuration[16 + 2 * t] = 64, configuration[48 + t] = 16;
  asm volatile("" : : "r"(configuration) : "memory");
  _tile_loadconfig(configuration);
  return true;
}
#endif

#if defined(__AVX512VNNI__)
void int8_vnni(long rounds) {
  __m512i sums[kSums], a = _mm512_set1_epi8(3), b = _mm512_set1_epi8(5);
  for (auto& sum : sums) sum = _mm512_setzero_si512();
  for (long r = 0; r < rounds; ++r) {
    asm volatile("" : "+v"(a), "+v"(b));
    for (auto& sum : sums) sum = _mm512_dpbusd_epi32(sum, a, b);
  }
  for (auto& sum : sums) asm volatile("" : "+v"(sum));
}
#endif

#if defined(__AVX512F__)
void fp32_fma(long rounds) {
  __m512 sums[kSums], a = _mm512_set1_ps(1e-3f), b = _mm512_set1_ps(1e-3f);
  for (auto& sum : sums) sum = _mm512_setzero_ps();
  for (long r = 0; r < rounds; ++r) {
    asm volatile("" : "+v"(a), "+v"(b));
    for (auto& sum : sums) sum = _mm512_fmadd_ps(a, b, sum);
  }
  for (auto& sum : sums) asm volatile("" : "+v"(sum));
}
constexpr double kFp32Operations = 32;
#elif defined(__AVX2__) && defined(__FMA__)
void fp32_fma(long rounds) {
  __m256 sums[kSums], a = _mm256_set1_ps(1e-3f), b = _mm256_set1_ps(1e-3f);
  for (auto& sum : sums) sum = _mm256_setzero_ps();
  for (long r = 0; r < rounds; ++r) {
    asm volatile("" : "+x"(a), "+x"(b));
    for (auto& sum : sums) sum = _mm256_fmadd_ps(a, b, sum);
  }
  for (auto& sum : sums) asm volatile("" : "+x"(sum));
}
constexpr double kFp32Operations = 16;
#endif

#if defined(__AVX2__)
// Sums in AVX2, all unrolled: GCC keeps an array of them in memory otherwise.
template <class Step>
void burn_avx2(long rounds, const Step& step) {
  __m256i sums[kSums], a = _mm256_set1_epi16(3), b = _mm256_set1_epi16(1);
#pragma GCC unroll 16
  for (int i = 0; i < kSums; ++i) sums[i] = _mm256_setzero_si256();
  for (long r = 0; r < rounds; ++r)
#pragma GCC unroll 16
    for (int i = 0; i < kSums; ++i) {
      asm volatile("" : "+x"(a), "+x"(b));
      sums[i] = _mm256_add_epi32(sums[i], step(a, b));
    }
#pragma GCC unroll 16
  for (int i = 0; i < kSums; ++i) asm volatile("" : "+x"(sums[i]));
}

// Sixteen exact products of 16-bit codes, and the addition that keeps them.
void int8_avx2(long rounds) {
  burn_avx2(rounds, [](__m256i a, __m256i b) { return _mm256_madd_epi16(a, b); });
}

// 32 products of bytes, exact where no two of them saturate.
void int8_avx2_two_products(long rounds) {
  burn_avx2(rounds, [](__m256i a, __m256i b) {
    return _mm256_madd_epi16(_mm256_maddubs_epi16(a, b), b);
  });
}

// 64, exact where no four of them overflow 16 bits.
void int8_avx2_four_products(long rounds) {
  burn_avx2(rounds, [](__m256i a, __m256i b) {
    const __m256i two = _mm256_maddubs_epi16(a, b);
    asm volatile("" : "+x"(a));
    return _mm256_madd_epi16(_mm256_add_epi16(two, _mm256_maddubs_epi16(a, b)), b);
  });
}
#endif

}  // namespace

int main() {
#if defined(__AMX_INT8__)
  if (tiles_are_ready()) report("int8_amx", int8_amx, 2 * 16 * 16 * 64);
#endif
#if defined(__AVX512VNNI__)
  report("int8_avx512_vnni", int8_vnni, 128);
#endif
#if defined(__AVX2__)
  report("int8_avx2", int8_avx2, 32);
  report("int8_avx2_two_products", int8_avx2_two_products, 64);
  report("int8_avx2_four_products", int8_avx2_four_products, 128);
#endif
#if defined(__AVX512F__) || (defined(__AVX2__) && defined(__FMA__))
  report("fp32", fp32_fma, kFp32Operations);
#endif
}
