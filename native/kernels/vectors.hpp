// Vectors of floats and what is computed with them, in the compiler's own vector types. An
// instruction set says how wide they are (kWidth) before this file is included.
#pragma once

typedef float Floats __attribute__((vector_size(kWidth * 4)));
typedef std::int32_t Ints __attribute__((vector_size(kWidth * 4)));

static inline Floats load(const float* from) {
  Floats v;
  std::memcpy(&v, from, sizeof v);
  return v;
}

static inline void store(float* to, Floats v) { std::memcpy(to, &v, sizeof v); }

static inline Ints load(const std::int32_t* from) {
  Ints v;
  std::memcpy(&v, from, sizeof v);
  return v;
}

// The same bits.
static inline Floats as_floats(Ints bits) { return (Floats)bits; }
static inline Ints as_ints(Floats v) { return (Ints)v; }

static inline Floats all(float value) { return value - Floats{}; }

// b where one of them is not a number.
#if defined(MIAOTUI_AVX512)  // of whose choice GCC makes two instructions
static inline Floats larger(Floats a, Floats b) {
  return (Floats)_mm512_max_ps((__m512)a, (__m512)b);
}
static inline Floats smaller(Floats a, Floats b) {
  return (Floats)_mm512_min_ps((__m512)a, (__m512)b);
}
#else
static inline Floats larger(Floats a, Floats b) { return a > b ? a : b; }
static inline Floats smaller(Floats a, Floats b) { return a < b ? a : b; }
#endif
static inline Floats magnitude(Floats a) { return larger(a, -a); }

// The first `count` lanes (all, where there are no more), the others zero.
static inline Floats first_lanes(Floats v, int count) {
  Ints lanes;
  for (int i = 0; i < kWidth; ++i) lanes[i] = i;
  return lanes < count ? v : Floats{};
}

static inline Floats to_floats(Ints v) { return __builtin_convertvector(v, Floats); }

// The same values, those `by` lanes higher first.
static inline Floats turned(Floats v, int by) {
#if defined(__clang__)
  Floats out;
  for (int i = 0; i < kWidth; ++i) out[i] = v[(i + by) % kWidth];
  return out;
#else
  Ints lanes;
  for (int i = 0; i < kWidth; ++i) lanes[i] = (i + by) % kWidth;
  return __builtin_shuffle(v, lanes);
#endif
}

// Sums and maxima fold the upper half onto the lower, so that they do not depend on the compiler.
static inline float sum_of(Floats v) {
#pragma GCC unroll 8
  for (int half = kWidth / 2; half > 0; half /= 2) v += turned(v, half);
  return v[0];
}

static inline float largest_of(Floats v) {
#pragma GCC unroll 8
  for (int half = kWidth / 2; half > 0; half /= 2) v = larger(v, turned(v, half));
  return v[0];
}

// e^x to 2 units in the last place; x at or below -87 gives 1.6e-38 instead of less.
// 2^n by the exponent's bits, e^r by its series on |r| <= ln 2 / 2.
static inline Floats exponential(Floats x) {
  x = smaller(larger(x, all(-87.0f)), all(88.0f));
  const Floats shifted = x * 1.44269504f + 12582912.0f;  // rounds to whole numbers: 1.5 * 2^23
  const Floats n = shifted - 12582912.0f;
  const Floats r = (x - n * 0.693359375f) + n * 2.12194440e-4f;
  Floats p = all(1.9875691500e-4f);
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  const Floats e = p * r * r + r + 1.0f;
  return e * as_floats((__builtin_convertvector(n, Ints) + 127) << 23);
}

// e^x with an error below 1e-4 of it, a twentieth of what rounding to bf16 may add; x beyond -87 or
// 87 counts as that. 2^n by adding n to the exponent of 2^r, |r| <= 1/2, P of least maximum relative
// error.
static inline Floats rough_exponential(Floats x) {
  const Floats scaled = smaller(larger(x, all(-87.0f)), all(87.0f)) * 1.44269504f;
  const Floats shifted = scaled + 12582912.0f;
  const Floats r = scaled - (shifted - 12582912.0f);
  Floats p = all(0.0551716685f);
  p = p * r + 0.242611125f;
  p = p * r + 0.693260968f;
  p = p * r + 0.999928057f;
  return as_floats(as_ints(p) + (as_ints(shifted) << 23));
}

static inline Floats tanh_of(Floats x) { return 1.0f - 2.0f / (exponential(x * 2.0f) + 1.0f); }

// x Phi(x), the error below 1e-5: Phi(x) - 1/2 = x P(x^2) on |x| <= 5, P of least maximum error in
// 2 x^2 / 25 - 1, which keeps its coefficients small.
static inline Floats gelu(Floats x) {
  const Floats near = smaller(larger(x, all(-5.0f)), all(5.0f));
  const Floats s = near * near * 0.08f - 1.0f;
  Floats p = all(0.00227730954f);
  p = p * s - 0.00627801381f;
  p = p * s + 0.00702122087f;
  p = p * s - 0.00832982827f;
  p = p * s + 0.0155479265f;
  p = p * s - 0.0242151599f;
  p = p * s + 0.0317441449f;
  p = p * s - 0.0403191708f;
  p = p * s + 0.0514880121f;
  p = p * s - 0.0703005195f;
  p = p * s + 0.141364306f;
  return x * (near * p + 0.5f);
}

static inline Floats gelu_tanh(Floats x) {
  const Floats inner = 0.7978845608f * (x + 0.044715f * x * x * x);
  return 0.5f * x * (1.0f + tanh_of(inner));
}

static inline Floats relu(Floats x) { return larger(x, Floats{}); }

static inline Floats unchanged(Floats x) { return x; }
