#include "packing.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "groups.hpp"

namespace miaotui {
namespace {

float from_half(std::uint16_t half) {
  const std::uint32_t bits = static_cast<std::uint32_t>(half) << 16;
  float value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

// To the nearest, halfway cases to even.
std::uint16_t to_half(float value) {
  std::uint32_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  return static_cast<std::uint16_t>((bits + 0x7FFF + (bits >> 16 & 1)) >> 16);
}

// [outputs][inputs] as floats, the two of a low-rank pair multiplied.
std::vector<float> dense(const PlainLinear& plain) {
  const std::size_t outputs = plain.outputs, inputs = plain.inputs;
  std::vector<float> own(outputs * inputs);
  for (std::size_t i = 0; i < own.size(); ++i) switch (plain.format) {
      case Format::int8: own[i] = plain.codes[i] * plain.scales[i / inputs]; break;
      case Format::bf16: own[i] = from_half(plain.halves[i]); break;
      case Format::fp32: own[i] = plain.values[i]; break;
    }
  if (!plain.first) return own;
  const std::vector<float> first = dense(*plain.first);
  const std::size_t entry = plain.first->inputs;
  std::vector<float> product(outputs * entry);
  for (std::size_t o = 0; o < outputs; ++o)
    for (std::size_t k = 0; k < inputs; ++k)
      for (std::size_t i = 0; i < entry; ++i)
        product[o * entry + i] += own[o * inputs + k] * first[k * entry + i];
  return product;
}

}  // namespace

PackedLinear::PackedLinear(const PlainLinear& plain, Panels panels, Spread outputs, Spread inputs,
                           float factor) {
  const int panel = panels.columns;
  if (plain.first) {
    first_ = std::make_unique<PackedLinear>(*plain.first, panels, Spread{}, inputs);
    view_.first = &first_->view();
    view_.rank = plain.first->outputs;
    inputs = Spread{};
  }
  const int width = plain.outputs > 0 ? outputs(plain.outputs - 1) + 1 : 0;
  view_.format = plain.format;
  view_.panels = rounded_up(width, panel) / panel;
  bias_ = aligned_zeros<float>(static_cast<std::size_t>(view_.panels) * panel);
  for (int o = 0; o < plain.outputs && plain.bias != nullptr; ++o)
    bias_[outputs(o)] = plain.bias[o] * factor;
  view_.bias = bias_.get();
  const int depth = plain.inputs > 0 ? inputs(plain.inputs - 1) + 1 : 0;
  switch (plain.format) {
    case Format::int8:
      view_.depth = rounded_up(depth, panels.depth_step);
      pack_codes(plain, panels, outputs, inputs, factor);
      break;
    case Format::bf16:
      view_.depth = rounded_up(depth, panels.depth_step / 2);
      pack_halves(plain, panel, outputs, inputs, factor);
      break;
    case Format::fp32:
      view_.depth = depth;
      pack_floats(plain, panel, outputs, inputs, factor);
      break;
  }
}

void PackedLinear::pack_codes(const PlainLinear& plain, Panels panels, Spread outputs, Spread inputs,
                              float factor) {
  const int panel = panels.columns;
  if (plain.input_high > plain.input_low) {
    const float low = std::min(plain.input_low, 0.0f), high = std::max(plain.input_high, 0.0f);
    view_.input_scale = (high - low) / 255.0f;
    view_.input_zero =
        static_cast<int>(std::clamp(std::nearbyint(-low / view_.input_scale), 0.0f, 255.0f));
  }
  const std::size_t columns = static_cast<std::size_t>(view_.panels) * panel;
  codes_ = aligned_zeros<std::int8_t>(columns * view_.depth);
  scales_ = aligned_zeros<float>(columns);
  offsets_ = aligned_zeros<std::int32_t>(columns);
  for (int o = 0; o < plain.outputs; ++o) {
    const int column = outputs(o);
    std::int8_t* to = codes_.get() +
                      static_cast<std::size_t>(column / panel) * panel * view_.depth +
                      column % panel * 4;
    const std::int8_t* from = plain.codes + static_cast<std::size_t>(o) * plain.inputs;
    std::int32_t sum = 0;
    for (int i = 0; i < plain.inputs; ++i) {
      const int k = inputs(i);
      to[static_cast<std::size_t>(k / 4) * panel * 4 + k % 4] = from[i];
      sum += from[i];
    }
    scales_[column] = plain.scales[o] * factor;
    offsets_[column] = sum * (panels.code_shift - view_.input_zero);
  }
  view_.weights = codes_.get();
  view_.scales = scales_.get();
  view_.offsets = offsets_.get();
  if (panels.sorted) sort_panels(panel);
}

void PackedLinear::sort_panels(int panel) {
  const int groups = view_.depth / 4;
  groups_ = aligned_zeros<std::int32_t>(static_cast<std::size_t>(view_.panels) * groups);
  counts_ = std::make_unique<GroupCounts[]>(view_.panels);
  for (int p = 0; p < view_.panels; ++p)
    counts_[p] = sort_groups(codes_.get() + static_cast<std::size_t>(p) * panel * view_.depth, panel,
                             groups, groups_.get() + static_cast<std::size_t>(p) * groups);
  view_.groups = groups_.get();
  view_.counts = counts_.get();
}

void PackedLinear::pack_halves(const PlainLinear& plain, int panel, Spread outputs, Spread inputs,
                               float factor) {
  halves_ =
      aligned_zeros<std::uint16_t>(static_cast<std::size_t>(view_.panels) * panel * view_.depth);
  for (int o = 0; o < plain.outputs; ++o) {
    const int column = outputs(o);
    std::uint16_t* to = halves_.get() +
                        static_cast<std::size_t>(column / panel) * panel * view_.depth +
                        column % panel * 2;
    const std::uint16_t* from = plain.halves + static_cast<std::size_t>(o) * plain.inputs;
    for (int i = 0; i < plain.inputs; ++i) {
      const int k = inputs(i);
      to[static_cast<std::size_t>(k / 2) * panel * 2 + k % 2] = from[i];
    }
  }
  view_.weights = halves_.get();
  view_.factor = factor;
}

void PackedLinear::pack_floats(const PlainLinear& plain, int panel, Spread outputs, Spread inputs,
                               float factor) {
  values_ = aligned_zeros<float>(static_cast<std::size_t>(view_.panels) * panel * view_.depth);
  for (int o = 0; o < plain.outputs; ++o) {
    const int column = outputs(o);
    float* to = values_.get() + static_cast<std::size_t>(column / panel) * panel * view_.depth +
                column % panel;
    const float* from = plain.values + static_cast<std::size_t>(o) * plain.inputs;
    for (int i = 0; i < plain.inputs; ++i)
      to[static_cast<std::size_t>(inputs(i)) * panel] = from[i] * factor;
  }
  view_.weights = values_.get();
}

PackedStates::PackedStates(const PlainLinear& key, const PlainLinear& value, Spread heads,
                           int stride, bool halves) {
  const std::size_t width = static_cast<std::size_t>(value.outputs) / heads.dim * heads.padded;
  const std::size_t size = width * stride, padded = heads.padded;
  const int inputs = value.first ? value.first->inputs : value.inputs;
  if (halves)
    halves_ = aligned_zeros<std::uint16_t>(2 * size);
  else
    values_ = aligned_zeros<float>(2 * size);
  const auto put = [&](std::size_t matrix, std::size_t depth, std::size_t columns,
                       std::size_t column, float weight) {
    if (halves)
      halves_[matrix + (depth / 2 * columns + column) * 2 + depth % 2] = to_half(weight);
    else
      values_[matrix + depth * columns + column] = weight;
  };
  bias_ = aligned_zeros<float>(width);
  const std::vector<float> keys = dense(key), values = dense(value);
  for (int o = 0; o < value.outputs; ++o) {
    const std::size_t matrix = static_cast<std::size_t>(o / heads.dim) * padded * stride;
    for (int i = 0; i < inputs; ++i) {
      const std::size_t from = static_cast<std::size_t>(o) * inputs + i;
      put(matrix, o % heads.dim, stride, i, keys[from]);
      put(size + matrix, i, padded, o % heads.dim, values[from]);
    }
    if (value.bias != nullptr) bias_[heads(o)] = value.bias[o];
  }
  if (halves)
    view_ = {halves_.get(), halves_.get() + size, bias_.get()};
  else
    view_ = {values_.get(), values_.get() + size, bias_.get()};
}

}  // namespace miaotui
