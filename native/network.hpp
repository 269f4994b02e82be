// What a kernel sees of a network: plain pointers and sizes.
#pragma once

#include <cstddef>
#include <cstdint>

// Of all copies of a function that several files hold, the linker keeps any one: one that was
// compiled for AVX-512 would then run on every processor. So the files under isa/ share none: what
// they include is theirs alone (namespaces without a name), always inlined, or not defined there.
// tests/sanitize.sh looks for what was forgotten.
#define MIAOTUI_INLINE inline __attribute__((always_inline))

namespace miaotui {

// Rows of every scratch matrix are padded to this many columns, whatever the instruction set.
constexpr int kColumns = 64;

// Head dimensions are padded to this many: the widest vector of floats there is.
constexpr int kHeadStep = 16;

// Scratch has rows in multiples of this many: a tile of rows is read whole, its last ones unused.
constexpr int kRowStep = 16;

// Rows whose codes a product widens to 16 bits at a time, where it needs them so; of bf16 to floats
// half as many.
constexpr int kWidenedRows = 48;

// Between two such rows, so that those of a tile lie in different sets of the nearest cache.
constexpr int kRoomGap = 32;

MIAOTUI_INLINE constexpr int rounded_up(int value, int step) { return (value + step - 1) / step * step; }

enum class Activation : int { gelu, gelu_tanh, relu };
// What is read out of a row's states: that of its first token, their mean, or each of them.
enum class Readout : int { first, mean, every };

// Between the two linears of the head; linear: there is the second one alone; none: there is no head,
// a state itself is the output.
enum class HeadKind : int { tanh, gelu, relu, linear, none };
enum class Format : int { fp32, bf16, int8 };

// Weights are packed in panels of so many columns; an int8 panel's depth is a multiple of
// `depth_step`, at most kColumns, a bf16 panel's of half that. `code_shift` is what the kernel takes
// from each code of a row before it multiplies. `sorted`: see groups.hpp.
struct Panels {
  int columns, depth_step, code_shift = 0;
  bool sorted = false;
};

// The groups of four codes of a sorted int8 panel: `four_products` pairs of them come first, then
// `two_products` single ones, then the others.
struct GroupCounts {
  std::int32_t four_products = 0, two_products = 0;
};

// y = x W + b, packed in panels of as many columns as a kernel takes at once.
//
// int8: [panels][depth / 4][panel columns][4] codes; y = (sum of u8 * s8 + offset) * row scale *
// column scale + bias. Codes of a row are unsigned: `input_zero` stands for 0. Where `input_scale`
// is 0 every row has a scale of its own and its zero is 128. Sorted panels: `groups` has [panels]
// [depth / 4], where in a row each group of four starts, and `counts` what may be done with them.
// bf16: [panels][depth / 2][panel columns][2]; y = sum * factor + bias.
// fp32: [panels][depth][panel columns].
struct LinearView {
  Format format = Format::fp32;
  int depth = 0;
  int panels = 0;
  const void* weights = nullptr;
  const float* scales = nullptr;
  const float* bias = nullptr;
  const std::int32_t* offsets = nullptr;
  float input_scale = 0.0f;
  int input_zero = 128;
  float factor = 1.0f;
  // Of a low-rank pair: what comes before, and how many columns it gives.
  const LinearView* first = nullptr;
  int rank = 0;
  const std::int32_t* groups = nullptr;
  const GroupCounts* counts = nullptr;

  MIAOTUI_INLINE const LinearView& entry() const { return first != nullptr ? *first : *this; }
};

struct NormView {
  const float* gamma = nullptr;  // zero beyond the true width
  const float* beta = nullptr;
};

// What a layer whose first tokens alone ask has instead of keys and values (kernels/states.hpp), the
// floats or bf16 that attention.hpp multiplies by: `keys` [heads][head_dim][stride of a state],
// `values` [heads][stride of a state][head_dim], `bias` [heads][head_dim].
struct StatesView {
  const void* keys = nullptr;
  const void* values = nullptr;
  const float* bias = nullptr;
};

// Without heads (or inner width) only the bias of that half's output is left.
struct LayerView {
  int heads = 0;
  bool halves = false;  // attention multiplies bf16, not floats
  LinearView query, key, value, output;
  StatesView states;
  const float* output_bias = nullptr;
  NormView attention_norm;
  int inner = 0;
  LinearView up, down;
  const float* down_bias = nullptr;
  NormView ffn_norm;
};

struct NetworkView {
  int vocabulary = 0;
  int positions = 0;
  int position_offset = 0;
  int types = 0;
  int embedding = 0;
  int hidden = 0;
  int head_dim = 0;  // padded to kHeadStep
  int labels = 0;
  float norm_eps = 0.0f;
  Activation activation = Activation::gelu;
  HeadKind head_kind = HeadKind::tanh;
  Readout readout = Readout::first;
  const float* words = nullptr;           // [vocabulary][embedding]
  const float* position_rows = nullptr;   // [positions][embedding]
  const float* type_rows = nullptr;       // [types][embedding]
  NormView embedding_norm;
  const LinearView* projection = nullptr;
  const LayerView* layers = nullptr;
  int layer_count = 0;
  LinearView dense, classifier;
};

// Whole rows, one after another: row r owns tokens starts[r] to starts[r + 1].
struct Chunk {
  int rows = 0;
  const std::int32_t* starts = nullptr;
  const std::int32_t* ids = nullptr;
  const std::int32_t* types = nullptr;  // null: all zero
  float* logits = nullptr;              // [readouts][rounded_up(labels, kColumns)]

  MIAOTUI_INLINE int tokens() const { return starts[rows]; }
};

// One region a member, for widened rows: kWidenedRows of `columns` codes, kRoomGap among them.
struct Room {
  std::uint16_t* codes = nullptr;
  int columns = 0;
};

// A state of some tokens: in float, and in bf16 or in codes with a scale a row where a product
// wants them.
struct State {
  float* values = nullptr;
  std::uint16_t* halves = nullptr;
  std::uint8_t* codes = nullptr;
  float* scales = nullptr;
  int stride = 0;
  Room room = {};
};

// Scratch of one team; Encoder::Scratch sizes it.
struct Workspace {
  State state, picked, context, inner, rank;
  float* sum = nullptr;  // [tokens][hidden stride]
  void* query = nullptr;  // [tokens][head stride] of floats, or of bf16
  void* key = nullptr;
  void* value = nullptr;
  int head_stride = 0;
  float* keys = nullptr;  // one region a member: one head's keys, and its values where they move
  std::size_t keys_size = 0;
  float* asked = nullptr;  // [heads][kRowStep][state stride], where states are asked
  void* answers = nullptr;  // the same, of floats or of bf16
  float* scores = nullptr;   // one region a member
  std::size_t scores_size = 0;
};

}  // namespace miaotui
