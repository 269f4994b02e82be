// Attention of one head over one row: scores against keys, softmax, weighted values. `Element` is
// what is multiplied: float, or std::uint16_t for bf16 (sums and softmax are floats all the same).
// Matrices on the right lie in [depth][columns], those of bf16 in pairs: [depth / 2][columns][2].
#pragma once

template <class Element>
constexpr int kPairing = sizeof(float) / sizeof(Element);

template <class Element>
constexpr bool kTiles = kTiled && sizeof(Element) == 2;

// Keys and values of a row are filled up to so many tokens.
constexpr int kTokenStep = kTiled ? 2 * kHeadStep : kHeadStep;

struct ToContext {  // divided by the sum of the softmax
  float* out;
  int stride;
  const float* inverse;
  void operator()(int row, int column, Floats v) const {
    store(out + static_cast<std::ptrdiff_t>(row) * stride + column, v * inverse[row]);
  }
};

// `rows` rows of a times `groups` groups of 16 columns, everything in registers.
template <int rows, int groups, class Element, class Out>
static inline void small_product(const Element* a, int a_stride, const Element* b, int b_stride,
                                 int depth, int column, const Out& out) {
  constexpr int vectors = groups * kHeadStep / kWidth;
  Floats sums[rows][vectors] = {};
  b += column * kPairing<Element>;
  for (int k = 0; k < depth; k += kPairing<Element>)
    multiply_depth(sums, a + k, a_stride, b + static_cast<std::size_t>(k) * b_stride);
#pragma GCC unroll 16
  for (int r = 0; r < rows; ++r)
#pragma GCC unroll 16
    for (int v = 0; v < vectors; ++v) out(r, column + v * kWidth, sums[r][v]);
}

template <int most, class Element, class Out>
static inline void row_product(int rows, const Element* a, int a_stride, const Element* b,
                               int b_stride, int depth, int columns, const Out& out) {
  if (rows < most) {
    if constexpr (most > 1)
      row_product<most - 1>(rows, a, a_stride, b, b_stride, depth, columns, out);
    return;
  }
  int c = 0;
  for (; c + kGroups * kHeadStep <= columns; c += kGroups * kHeadStep)
    small_product<most, kGroups>(a, a_stride, b, b_stride, depth, c, out);
  for (; c < columns; c += kHeadStep)
    small_product<most, 1>(a, a_stride, b, b_stride, depth, c, out);
}

// Up to kRowStep rows of a, all of which are read, by an instruction set that multiplies matrices;
// depth and columns are multiples of 32.
template <class Out>
static void tiled_product(int rows, const std::uint16_t* a, int a_stride, const std::uint16_t* b,
                          int b_stride, int depth, int columns, const Out& out);

// A weight of the softmax, stored and as it is summed up.
static inline Floats put_weight(float* to, Floats score) {
  const Floats weight = exponential(score);
  store(to, weight);
  return weight;
}

static inline Floats put_weight(std::uint16_t* to, Floats score) {
  const Floats weight = rough_exponential(score);
  store_halves(to, weight);
  return weight;
}

// Scores straight to weights as they leave the registers, without their largest taken off first.
template <class Element>
struct ToWeights {
  Element* out;
  int stride, tokens;
  Floats* totals;
  void operator()(int row, int column, Floats score) const {
    const Floats weight =
        put_weight(out + static_cast<std::ptrdiff_t>(row) * stride + column, score);
    totals[row] += first_lanes(weight, tokens - column);
  }
};

// Sums of such weights that floats hold, with values of up to 1e19 too, and that no weight of matter is
// lost from: the largest score lies between about -60 and 43.
constexpr float kLeastTotal = 1e-26f, kMostTotal = 1e19f;

// Scores to weights that are not yet divided by their sum, in their place; the sum's inverse is
// returned.
template <class Element>
static inline float softmax(float* scores, int tokens, int padded) {
  Element* weights = reinterpret_cast<Element*>(scores);
  for (int t = tokens; t < padded; ++t) scores[t] = -1e30f;
  Floats most = load(scores);
  for (int t = kWidth; t < padded; t += kWidth) most = larger(most, load(scores + t));
  const float largest = largest_of(most);
  Floats total = {};
  for (int t = 0; t < padded; t += kWidth)
    total += put_weight(weights + t, load(scores + t) - largest);
  return 1.0f / sum_of(total);
}

template <class Element>
struct HeadRow {
  const Element* query;   // [queries][stride]
  const Element* keys;    // [head_dim] by padded tokens
  const Element* values;  // [tokens] by value_stride
  float* context;         // [queries][context stride]
  int stride, value_stride, context_stride, head_dim, tokens;
};

// `tiles`: by tiled_product.
template <class Element, class Out>
static inline void multiply_rows(int rows, const Element* a, int a_stride, const Element* b,
                                 int b_stride, int depth, int columns, bool tiles, const Out& out) {
  if constexpr (kTiles<Element>)
    if (tiles) {
      tiled_product(rows, a, a_stride, b, b_stride, rounded_up(depth, kTokenStep), columns, out);
      return;
    }
  row_product<kAttentionRows>(rows, a, a_stride, b, b_stride, depth, columns, out);
}

template <class Element>
static inline void attend(const HeadRow<Element>& head, int query, int rows, bool tiles,
                          float* scores) {
  const int padded = rounded_up(head.tokens, kTokenStep);
  const int stride = padded * kPairing<Element>;
  const Element* asking = head.query + static_cast<std::size_t>(query) * head.stride;
  auto* weights = reinterpret_cast<Element*>(scores);
  Floats totals[kTiled ? kRowStep : kAttentionRows] = {};
  multiply_rows(rows, asking, head.stride, head.keys, padded, head.head_dim, padded, tiles,
                ToWeights<Element>{weights, stride, head.tokens, totals});
  float inverse[kRowStep];
  bool held = true;
  for (int r = 0; r < rows; ++r) {
    const float total = sum_of(totals[r]);
    held = held && total >= kLeastTotal && total <= kMostTotal;
    inverse[r] = 1.0f / total;
  }
  if (!held) {
    multiply_rows(rows, asking, head.stride, head.keys, padded, head.head_dim, padded, tiles,
                  ToFloats{scores, padded});
    for (int r = 0; r < rows; ++r)
      inverse[r] = softmax<Element>(scores + r * padded, head.tokens, padded);
  }
  multiply_rows(rows, weights, stride, head.values, head.value_stride, head.tokens, head.head_dim,
                tiles,
                ToContext{head.context + static_cast<std::size_t>(query) * head.context_stride,
                          head.context_stride, inverse});
}

// What the products want of a head's keys and values; `room` has place for both.
struct Placed {
  const void *keys, *values;
  int value_stride;
};

static Placed place(const float* key, const float* value, int stride, int tokens, int head_dim,
                    float* room) {
  const int padded = rounded_up(tokens, kTokenStep);
  for (int d = 0; d < head_dim; ++d) {
    float* to = room + static_cast<std::size_t>(d) * padded;
    for (int t = 0; t < tokens; ++t) to[t] = key[static_cast<std::size_t>(t) * stride + d];
    for (int t = tokens; t < padded; ++t) to[t] = 0.0f;
  }
  return {room, value, stride};
}

static Placed place(const std::uint16_t* key, const std::uint16_t* value, int stride, int tokens,
                    int head_dim, float* room) {
  typedef std::uint32_t Words __attribute__((vector_size(kWidth * 4)));
  typedef std::uint16_t Halves __attribute__((vector_size(kWidth * 2)));
  const int padded = rounded_up(tokens, kTokenStep);
  auto* keys = reinterpret_cast<std::uint32_t*>(room);  // pairs
  for (int d = 0; d < head_dim; d += 2) {
    std::uint32_t* to = keys + static_cast<std::size_t>(d / 2) * padded;
    for (int t = 0; t < tokens; ++t)
      std::memcpy(to + t, key + static_cast<std::size_t>(t) * stride + d, sizeof *to);
    for (int t = tokens; t < padded; ++t) to[t] = 0;
  }
  std::uint32_t* values = keys + static_cast<std::size_t>(head_dim / 2) * padded;
  const Halves none = {};
  for (int t = 0; t < padded; t += 2)
    for (int d = 0; d < head_dim; d += kWidth) {
      Halves even = none, odd = none;
      const std::uint16_t* at = value + static_cast<std::size_t>(t) * stride + d;
      if (t < tokens) std::memcpy(&even, at, sizeof even);
      if (t + 1 < tokens) std::memcpy(&odd, at + stride, sizeof odd);
      const Words pairs = __builtin_convertvector(even, Words) |
                          __builtin_convertvector(odd, Words) << 16;
      std::memcpy(values + static_cast<std::size_t>(t / 2) * head_dim + d, &pairs, sizeof pairs);
    }
  return {keys, values, head_dim};
}

// This member's share of all heads of all rows.
template <class Element>
static void attention(const NetworkView& net, const LayerView& layer, const Chunk& chunk,
                      const Workspace& work, const Team& team) {
  float* room = work.keys + work.keys_size * team.member;
  float* scores = work.scores + work.scores_size * team.member;
  const auto* query = static_cast<const Element*>(work.query);
  const auto* key = static_cast<const Element*>(work.key);
  const auto* value = static_cast<const Element*>(work.value);
  const bool tiles = kTiles<Element> && net.head_dim % (2 * kHeadStep) == 0;
  const int block = tiles ? kRowStep : kAttentionRows;
  const Range mine = team.share(chunk.rows * layer.heads);
  for (int unit = mine.begin; unit < mine.end; ++unit) {
    const int row = unit / layer.heads, head = unit % layer.heads;
    const int start = chunk.starts[row], tokens = chunk.starts[row + 1] - start;
    const int column = head * net.head_dim;
    const std::size_t at = static_cast<std::size_t>(start) * work.head_stride + column;
    const Placed placed =
        place(key + at, value + at, work.head_stride, tokens, net.head_dim, room);
    const HeadRow<Element> one{
        query + at,
        static_cast<const Element*>(placed.keys),
        static_cast<const Element*>(placed.values),
        work.context.values + static_cast<std::size_t>(start) * work.context.stride + column,
        work.head_stride,
        placed.value_stride,
        work.context.stride,
        net.head_dim,
        tokens};
    for (int q = 0; q < tokens; q += block)
      attend(one, q, tokens - q < block ? tokens - q : block, tiles, scores);
  }
}
