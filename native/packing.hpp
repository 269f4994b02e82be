// From matrices as they are saved to panels in the order in which a kernel reads them.
#pragma once

#include <memory>
#include <vector>

#include "aligned.hpp"
#include "network.hpp"

namespace miaotui {

// A linear as saved: [outputs][inputs] int8 codes with a scale an output, bf16, or floats.
// Borrowed; packing copies it.
struct PlainLinear {
  Format format = Format::fp32;
  int inputs = 0, outputs = 0;
  const std::int8_t* codes = nullptr;
  const float* scales = nullptr;
  const std::uint16_t* halves = nullptr;
  const float* values = nullptr;
  const float* bias = nullptr;  // null: zeros
  // The calibrated range of the inputs; an empty one (low == high) means a scale a row.
  float input_low = 0.0f, input_high = 0.0f;
  std::shared_ptr<const PlainLinear> first;
};

// Where the columns of a matrix of heads go when every head is padded: head_dim to padded_dim.
// The default leaves them where they are.
struct Spread {
  int dim = 1, padded = 1;

  int operator()(int column) const { return column / dim * padded + column % dim; }
};

// Owns the memory behind a LinearView.
class PackedLinear {
 public:
  // Outputs and inputs are spread over padded heads; outputs are multiplied by `factor`.
  PackedLinear(const PlainLinear& plain, Panels panels, Spread outputs = {}, Spread inputs = {},
               float factor = 1.0f);

  const LinearView& view() const { return view_; }

 private:
  void pack_codes(const PlainLinear& plain, Panels panels, Spread outputs, Spread inputs,
                  float factor);
  void sort_panels(int panel);
  void pack_halves(const PlainLinear& plain, int panel, Spread outputs, Spread inputs,
                   float factor);
  void pack_floats(const PlainLinear& plain, int panel, Spread outputs, Spread inputs,
                   float factor);

  LinearView view_;
  Aligned<std::int8_t> codes_;
  Aligned<std::uint16_t> halves_;
  Aligned<float> values_, scales_, bias_;
  Aligned<std::int32_t> offsets_, groups_;
  std::unique_ptr<GroupCounts[]> counts_;
  std::unique_ptr<PackedLinear> first_;
};

// Owns the memory behind a StatesView.
class PackedStates {
 public:
  // `heads`: head_dim to padded_dim. A state is `stride` wide.
  PackedStates(const PlainLinear& key, const PlainLinear& value, Spread heads, int stride,
               bool halves);

  const StatesView& view() const { return view_; }

 private:
  StatesView view_;
  Aligned<float> values_, bias_;
  Aligned<std::uint16_t> halves_;
};

}  // namespace miaotui
