// LayerNorm over rows, and rows in the formats that products take.
#pragma once

// Codes with the zero at 128; a row of zeros gets the scale 0. `columns` is a multiple of 16.
static inline void quantize_row(const float* values, int columns, std::uint8_t* codes,
                                float* scale) {
  Floats most = {};
  for (int c = 0; c < columns; c += kWidth) most = larger(most, magnitude(load(values + c)));
  const float largest = largest_of(most);
  const float inverse = largest > 0.0f ? 127.0f / largest : 0.0f;
  *scale = largest / 127.0f;
  for (int c = 0; c < columns; c += kWidth)
    store_codes(codes + c, load(values + c) * inverse + 128.0f);
}

// In bf16, zeros up to the next multiple of kColumns: a product may read so far.
static inline void round_row(const float* values, int columns, std::uint16_t* halves) {
  int c = 0;
  for (; c < columns; c += kWidth) store_halves(halves + c, load(values + c));
  for (; c < rounded_up(columns, kColumns); c += kWidth) store_halves(halves + c, Floats{});
}

// What products want of their input's rows, besides floats.
struct Wants {
  bool codes, halves;

  bool any() const { return codes || halves; }
};

static inline void prepare_row(const State& state, int columns, int row, Wants wanted) {
  const std::size_t at = static_cast<std::size_t>(row) * state.stride;
  if (wanted.codes)
    quantize_row(state.values + at, columns, state.codes + at, state.scales + row);
  if (wanted.halves) round_row(state.values + at, columns, state.halves + at);
}

// Columns beyond `width`, up to the next multiple of 16, hold zeros.
static void prepare_rows(const State& state, int width, int rows, Wants wanted,
                         const Team& team) {
  const Range mine = team.share(rows);
  for (int r = mine.begin; r < mine.end; ++r)
    prepare_row(state, rounded_up(width, 16), r, wanted);
}

// Columns from `width` to `stride` hold zeros before and after.
static inline void normalize_row(const float* from, float* to, int width, int stride,
                                 const NormView& norm, float eps) {
  Floats total = {};
  for (int c = 0; c < stride; c += kWidth) total += load(from + c);
  const float mean = sum_of(total) / static_cast<float>(width);
  Floats squares = {};
  for (int c = 0; c < stride; c += kWidth) {
    const Floats off = load(from + c) - mean;
    squares += off * off;
  }
  const float beyond = static_cast<float>(stride - width) * mean * mean;
  const float variance = (sum_of(squares) - beyond) / static_cast<float>(width);
  const float inverse = 1.0f / __builtin_sqrtf((variance > 0.0f ? variance : 0.0f) + eps);
  for (int c = 0; c < stride; c += kWidth)
    store(to + c, (load(from + c) - mean) * inverse * load(norm.gamma + c) + load(norm.beta + c));
}

// Normalizes this member's rows of `sums` into the state, in every format that is wanted.
static void normalize_rows(const float* sums, const State& state, int width, int rows,
                           const NormView& norm, float eps, Wants wanted, const Team& team) {
  const Range mine = team.share(rows);
  for (int r = mine.begin; r < mine.end; ++r) {
    const std::size_t at = static_cast<std::size_t>(r) * state.stride;
    normalize_row(sums + at, state.values + at, width, state.stride, norm, eps);
    prepare_row(state, state.stride, r, wanted);
  }
}
