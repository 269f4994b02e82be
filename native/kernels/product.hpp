// Products: a tile of rows times a panel of columns, all sums in registers, the rest of the work
// (scales, bias, what follows) done before a value leaves them.
//
// An instruction set gives kPanel (columns of a panel), kRows (rows of a tile), and for int8
// `Codes` (vectors of weights made ready), `Fours` (four codes of a row, in every lane), `ready`,
// `fours` and `multiply_add`; for bf16 what pairs.hpp has; or, where it multiplies whole matrices
// (kTiled), `tiled_panel` for both.
#pragma once

constexpr int kVectors = kPanel / kWidth;

// What becomes of values: `row` and `column` are those of the product.
struct ToFloats {
  float* out;
  int stride;
  void operator()(int row, int column, Floats v) const {
    store(out + static_cast<std::ptrdiff_t>(row) * stride + column, v);
  }
};

struct ToSum {  // with a residual
  float* out;
  const float* residual;
  int stride;
  void operator()(int row, int column, Floats v) const {
    const std::ptrdiff_t at = static_cast<std::ptrdiff_t>(row) * stride + column;
    store(out + at, load(residual + at) + v);
  }
};

template <Floats (*activate)(Floats)>
struct ToActivated {
  float* out;
  int stride;
  void operator()(int row, int column, Floats v) const {
    store(out + static_cast<std::ptrdiff_t>(row) * stride + column, activate(v));
  }
};

template <Floats (*activate)(Floats)>
struct ToCodes {  // with the one scale that was calibrated
  std::uint8_t* out;
  int stride;
  float inverse_scale, zero;
  void operator()(int row, int column, Floats v) const {
    store_codes(out + static_cast<std::ptrdiff_t>(row) * stride + column,
                activate(v) * inverse_scale + zero);
  }
};

template <Floats (*activate)(Floats)>
struct ToHalves {
  std::uint16_t* out;
  int stride;
  void operator()(int row, int column, Floats v) const {
    store_halves(out + static_cast<std::ptrdiff_t>(row) * stride + column, activate(v));
  }
};

// Rows of a product's input, in the format of its weights.
struct Input {
  const float* values = nullptr;
  const std::uint16_t* halves = nullptr;
  const std::uint8_t* codes = nullptr;
  const float* scales = nullptr;  // null: the product's own input scale
  int stride = 0;
  int rows = 0;
};

// A sum of codes as a value.
static inline Floats value_of(Ints sum, Floats scale, float row_scale, Floats bias) {
  return to_floats(sum) * (scale * row_scale) + bias;
}

static inline float row_scale(const LinearView& linear, const Input& in, int row) {
  return in.scales != nullptr ? in.scales[row] : linear.input_scale;
}

template <int rows, class Out>
static inline void int8_tile(const LinearView& linear, const Input& in, int row, int panel,
                             const Out& out) {
  const std::int8_t* weights = static_cast<const std::int8_t*>(linear.weights) +
                               static_cast<std::size_t>(panel) * linear.depth * kPanel;
  const std::uint8_t* codes = in.codes + static_cast<std::size_t>(row) * in.stride;
  const int column = panel * kPanel;
  Ints sums[rows][kVectors];
#pragma GCC unroll 16
  for (int r = 0; r < rows; ++r)
#pragma GCC unroll 16
    for (int v = 0; v < kVectors; ++v) sums[r][v] = load(linear.offsets + column + v * kWidth);
  for (int k = 0; k < linear.depth; k += 4) {
    Codes ready_codes[kVectors];
#pragma GCC unroll 16
    for (int v = 0; v < kVectors; ++v) ready_codes[v] = ready(weights + v * kWidth * 4);
    weights += kPanel * 4;
#pragma GCC unroll 16
    for (int r = 0; r < rows; ++r) {
      const Fours four = fours(codes + static_cast<std::size_t>(r) * in.stride + k);
#pragma GCC unroll 16
      for (int v = 0; v < kVectors; ++v)
        sums[r][v] = multiply_add(sums[r][v], four, ready_codes[v]);
    }
  }
#pragma GCC unroll 16
  for (int v = 0; v < kVectors; ++v) {
    const Floats scale = load(linear.scales + column + v * kWidth);
    const Floats bias = load(linear.bias + column + v * kWidth);
#pragma GCC unroll 16
    for (int r = 0; r < rows; ++r)
      out(row + r, column + v * kWidth,
          value_of(sums[r][v], scale, row_scale(linear, in, row + r), bias));
  }
}

// Adds the products of one pair of each row and of each column; a pass of kParts.
template <int part, int rows, int vectors>
static inline void multiply_part(Floats (&sums)[rows][vectors], const std::uint16_t* halves,
                                 int stride, const std::uint16_t* weights) {
  Pairs columns[vectors];
#pragma GCC unroll 16
  for (int v = 0; v < vectors; ++v) columns[v] = ready_pairs<part>(weights + v * kWidth * 2);
#pragma GCC unroll 16
  for (int r = 0; r < rows; ++r) {
    const Pairs pair = pair_of<part>(halves + static_cast<std::size_t>(r) * stride);
#pragma GCC unroll 16
    for (int v = 0; v < vectors; ++v) sums[r][v] = multiply_add(sums[r][v], pair, columns[v]);
  }
}

template <int rows, int vectors>
static inline void multiply_depth(Floats (&sums)[rows][vectors], const std::uint16_t* halves,
                                  int stride, const std::uint16_t* weights) {
  multiply_part<0>(sums, halves, stride, weights);
  if constexpr (kParts > 1) multiply_part<1>(sums, halves, stride, weights);
}

template <int rows, int vectors>
static inline void multiply_depth(Floats (&sums)[rows][vectors], const float* values, int stride,
                                  const float* weights) {
  Floats columns[vectors];
#pragma GCC unroll 16
  for (int v = 0; v < vectors; ++v) columns[v] = load(weights + v * kWidth);
#pragma GCC unroll 16
  for (int r = 0; r < rows; ++r) {
    const Floats value = all(values[static_cast<std::size_t>(r) * stride]);
#pragma GCC unroll 16
    for (int v = 0; v < vectors; ++v) sums[r][v] += value * columns[v];
  }
}

template <int rows, class Out>
static inline void half_tile(const LinearView& linear, const Input& in, int row, int panel,
                             const Out& out) {
  const std::uint16_t* weights = static_cast<const std::uint16_t*>(linear.weights) +
                                 static_cast<std::size_t>(panel) * linear.depth * kPanel;
  const std::uint16_t* halves = in.halves + static_cast<std::size_t>(row) * in.stride;
  const int column = panel * kPanel;
  Floats sums[rows][kVectors] = {};
  for (int k = 0; k < linear.depth; k += 2) {
    multiply_depth(sums, halves + k, in.stride, weights);
    weights += kPanel * 2;
  }
#pragma GCC unroll 16
  for (int v = 0; v < kVectors; ++v) {
    const Floats bias = load(linear.bias + column + v * kWidth);
#pragma GCC unroll 16
    for (int r = 0; r < rows; ++r)
      out(row + r, column + v * kWidth, sums[r][v] * linear.factor + bias);
  }
}

template <int rows, class Out>
static inline void float_tile(const LinearView& linear, const Input& in, int row, int panel,
                              const Out& out) {
  const float* weights = static_cast<const float*>(linear.weights) +
                         static_cast<std::size_t>(panel) * linear.depth * kPanel;
  const float* values = in.values + static_cast<std::size_t>(row) * in.stride;
  const int column = panel * kPanel;
  Floats sums[rows][kVectors];
#pragma GCC unroll 16
  for (int r = 0; r < rows; ++r)
#pragma GCC unroll 16
    for (int v = 0; v < kVectors; ++v) sums[r][v] = load(linear.bias + column + v * kWidth);
  for (int k = 0; k < linear.depth; ++k) {
    multiply_depth(sums, values + k, in.stride, weights);
    weights += kPanel;
  }
#pragma GCC unroll 16
  for (int v = 0; v < kVectors; ++v)
#pragma GCC unroll 16
    for (int r = 0; r < rows; ++r) out(row + r, column + v * kWidth, sums[r][v]);
}

template <int rows, class Out>
static inline void tile(const LinearView& linear, const Input& in, int row, int panel,
                        const Out& out) {
  if constexpr (!kTiled) {
    if (linear.format == Format::int8) {
      int8_tile<rows>(linear, in, row, panel, out);
      return;
    }
    if (linear.format == Format::bf16) {
      half_tile<rows>(linear, in, row, panel, out);
      return;
    }
  }
  float_tile<rows>(linear, in, row, panel, out);
}

// The rows that are left after the last whole tile.
template <int rows, class Out>
static void last_tile(const LinearView& linear, const Input& in, int row, int panel, int left,
                      const Out& out) {
  if constexpr (rows > 0) {
    if (left == rows)
      tile<rows>(linear, in, row, panel, out);
    else
      last_tile<rows - 1>(linear, in, row, panel, left, out);
  }
}

// All rows times one panel of int8 or bf16, by an instruction set that multiplies matrices.
template <class Out>
static void tiled_panel(const LinearView& linear, const Input& in, int panel, const Out& out);

// This member's panels of the product; each panel stays in the nearest cache for all rows.
template <class Out>
static void multiply(const LinearView& linear, const Input& in, const Team& team, const Out& out) {
  const Range panels = team.share(linear.panels);
  for (int panel = panels.begin; panel < panels.end; ++panel) {
    if constexpr (kTiled)
      if (linear.format != Format::fp32) {
        tiled_panel(linear, in, panel, out);
        continue;
      }
    int row = 0;
    for (; row + kRows <= in.rows; row += kRows) tile<kRows>(linear, in, row, panel, out);
    last_tile<kRows - 1>(linear, in, row, panel, in.rows - row, out);
  }
}
