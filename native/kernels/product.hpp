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
  Room room = {};
  // Widened, where the product wants that: rows from `first_wide` on, `wide_stride` apart.
  const void* wide = nullptr;
  int wide_stride = 0, first_wide = 0;
};

// bf16 that is multiplied as floats is made floats once for all panels.
constexpr bool kWidensHalves = !kHalfAttention;

template <class Wide>
static inline const Wide* wide_rows(const Input& in, int row) {
  return static_cast<const Wide*>(in.wide) +
         static_cast<std::size_t>(row - in.first_wide) * in.wide_stride;
}

// A sum of codes as a value.
static inline Floats value_of(Ints sum, Floats scale, float row_scale, Floats bias) {
  return to_floats(sum) * (scale * row_scale) + bias;
}

static inline float row_scale(const LinearView& linear, const Input& in, int row) {
  return in.scales != nullptr ? in.scales[row] : linear.input_scale;
}

// Sums of codes of a tile, from the offsets of its columns to values.
template <int rows>
static inline void begin_sums(Ints (&sums)[rows][kVectors], const LinearView& linear, int column) {
#pragma GCC unroll 16
  for (int r = 0; r < rows; ++r)
#pragma GCC unroll 16
    for (int v = 0; v < kVectors; ++v) sums[r][v] = load(linear.offsets + column + v * kWidth);
}

template <int rows, class Out>
static inline void write_sums(const Ints (&sums)[rows][kVectors], const LinearView& linear,
                              const Input& in, int row, int column, const Out& out) {
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

#if defined(MIAOTUI_SORTED)  // the instruction set has its own
constexpr bool kWidensCodes = true;

template <int rows, class Out>
static inline void int8_tile(const LinearView& linear, const Input& in, int row, int panel,
                             const Out& out);
#else
constexpr bool kWidensCodes = false;

template <int rows, class Out>
static inline void int8_tile(const LinearView& linear, const Input& in, int row, int panel,
                             const Out& out) {
  const std::int8_t* weights = static_cast<const std::int8_t*>(linear.weights) +
                               static_cast<std::size_t>(panel) * linear.depth * kPanel;
  const std::uint8_t* codes = in.codes + static_cast<std::size_t>(row) * in.stride;
  const int column = panel * kPanel;
  Ints sums[rows][kVectors];
  begin_sums(sums, linear, column);
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
  write_sums(sums, linear, in, row, column, out);
}
#endif

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

// The same where pairs are multiplied as floats and the rows are floats already.
template <int part, int rows, int vectors>
static inline void multiply_part(Floats (&sums)[rows][vectors], const float* values, int stride,
                                 const std::uint16_t* weights) {
  Pairs columns[vectors];
#pragma GCC unroll 16
  for (int v = 0; v < vectors; ++v) columns[v] = ready_pairs<part>(weights + v * kWidth * 2);
#pragma GCC unroll 16
  for (int r = 0; r < rows; ++r) {
    const Floats value = all(values[static_cast<std::size_t>(r) * stride + part]);
#pragma GCC unroll 16
    for (int v = 0; v < vectors; ++v) sums[r][v] += value * columns[v];
  }
}

template <int rows, class Out>
static inline void half_tile(const LinearView& linear, const Input& in, int row, int panel,
                             const Out& out) {
  const std::uint16_t* weights = static_cast<const std::uint16_t*>(linear.weights) +
                                 static_cast<std::size_t>(panel) * linear.depth * kPanel;
  const int column = panel * kPanel;
  Floats sums[rows][kVectors] = {};
  if constexpr (kWidensHalves) {
    const float* values = wide_rows<float>(in, row);
    for (int k = 0; k < linear.depth; k += 2) {
      multiply_part<0>(sums, values + k, in.wide_stride, weights);
      multiply_part<1>(sums, values + k, in.wide_stride, weights);
      weights += kPanel * 2;
    }
  } else {
    const std::uint16_t* halves = in.halves + static_cast<std::size_t>(row) * in.stride;
    for (int k = 0; k < linear.depth; k += 2) {
      multiply_depth(sums, halves + k, in.stride, weights);
      weights += kPanel * 2;
    }
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

// Up to so many rows; none do nothing.
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

// Rows `first` to `last`, `depth` columns of each, in the format that tiles multiply; what they are
// made of may be read up to the next multiple of kColumns.
static Input widened(const LinearView& linear, const Input& in, int first, int last,
                     const Team& team) {
  typedef std::uint8_t Bytes __attribute__((vector_size(kWidth)));
  typedef std::uint16_t Halves __attribute__((vector_size(kWidth * 2)));
  Input wide = in;
  const std::size_t size = static_cast<std::size_t>(kWidenedRows) * in.room.columns;
  std::uint16_t* to = in.room.codes + size * team.member;
  wide.wide = to;
  wide.wide_stride = rounded_up(linear.depth, kColumns) + kRoomGap;
  wide.first_wide = first;
  for (int row = first; row < last; ++row) {
    const std::size_t from = static_cast<std::size_t>(row) * in.stride;
    const std::size_t at = static_cast<std::size_t>(row - first) * wide.wide_stride;
    for (int k = 0; k < linear.depth; k += kWidth)
      if (linear.format == Format::int8) {
        Bytes codes;
        std::memcpy(&codes, in.codes + from + k, sizeof codes);
        const Halves halves = __builtin_convertvector(codes, Halves);
        std::memcpy(to + at + k, &halves, sizeof halves);
      } else {
        Halves halves;
        std::memcpy(&halves, in.halves + from + k, sizeof halves);
        store(reinterpret_cast<float*>(to) + at + k,
              as_floats(__builtin_convertvector(halves, Ints) << 16));
      }
  }
  return wide;
}

// All rows that are given times this member's panels; each panel stays in the nearest cache for all.
template <class Out>
static inline void multiply_panels(const LinearView& linear, const Input& in, int first, int last,
                                   Range panels, const Out& out) {
  for (int panel = panels.begin; panel < panels.end; ++panel) {
    int row = first;
    for (; last - row >= 2 * kRows; row += kRows) tile<kRows>(linear, in, row, panel, out);
    // Two halves, not a whole tile and a small one, whose few sums would wait for each other.
    const int left = last - row, half = left > kRows ? left / 2 : 0;
    last_tile<kRows>(linear, in, row, panel, half, out);
    last_tile<kRows>(linear, in, row + half, panel, left - half, out);
  }
}

// This member's panels of the product.
template <class Out>
static void multiply(const LinearView& linear, const Input& in, const Team& team, const Out& out) {
  const Range panels = team.share(linear.panels);
  if constexpr (kTiled)
    if (linear.format != Format::fp32) {
      for (int panel = panels.begin; panel < panels.end; ++panel)
        tiled_panel(linear, in, panel, out);
      return;
    }
  const bool codes = kWidensCodes && linear.format == Format::int8;
  const bool halves = kWidensHalves && linear.format == Format::bf16;
  if (!codes && !halves) {
    multiply_panels(linear, in, 0, in.rows, panels, out);
    return;
  }
  const int block = codes ? kWidenedRows : kWidenedRows / 2;
  for (int first = 0; first < in.rows; first += block) {
    const int last = first + block < in.rows ? first + block : in.rows;
    multiply_panels(linear, widened(linear, in, first, last, team), first, last, panels, out);
  }
}
