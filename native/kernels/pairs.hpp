// Products of bf16 in floats, for instruction sets without their own: the lower half of every pair
// of a column, then the upper one. Exact products, rounded sums.
#pragma once

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
