// bf16 for instruction sets without their own. Products are those of floats: the lower half of every
// pair of a column, then the upper one; exact products, rounded sums.
#pragma once

constexpr bool kHalfAttention = false;  // it would cost as much as in floats
constexpr int kParts = 2;

typedef Floats Pairs;

template <int part>
static inline Pairs ready_pairs(const std::uint16_t* weights) {
  Ints raw;
  std::memcpy(&raw, weights, sizeof raw);
  return as_floats(part == 0 ? raw << 16 : raw & static_cast<std::int32_t>(0xffff0000));
}

template <int part>
static inline Pairs pair_of(const std::uint16_t* halves) {
  const std::uint32_t bits = static_cast<std::uint32_t>(halves[part]) << 16;
  float value;
  std::memcpy(&value, &bits, sizeof value);
  return all(value);
}

static inline Floats multiply_add(Floats sum, Pairs pair, Pairs weights) {
  return sum + pair * weights;
}

// bf16 by rounding to the nearest, halfway cases to even; not a number stays none.
static inline void store_halves(std::uint16_t* to, Floats v) {
  typedef std::uint32_t Words __attribute__((vector_size(kWidth * 4)));
  typedef std::uint16_t Halves __attribute__((vector_size(kWidth * 2)));
  Words bits;
  std::memcpy(&bits, &v, sizeof bits);
  const Words rounded = bits + 0x7fffu + ((bits >> 16) & 1u);
  const Words chosen = v == v ? rounded : bits | 0x400000u;
  const Halves halves = __builtin_convertvector(chosen >> 16, Halves);
  std::memcpy(to, &halves, sizeof halves);
}
