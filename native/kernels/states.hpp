// Attention where a row's first token alone asks: keys and values are not made. A head's query times
// the weights of its keys asks the states themselves, and the states' weighted sum times the weights
// of its values is the answer: two products a row instead of two a token. A key's bias would add the
// same to every score of a query, so it has no part; weights sum to one, so a value's bias is added
// at the end. What is multiplied by weights is an `Element`; the states stay floats.
#pragma once

constexpr int kDotHeads = kWidth == 16 ? 4 : 2;
constexpr int kDotTokens = kWidth == 16 ? 4 : 2;

template <class Element>
struct ToAnswer {  // divided by the sum of the softmax
  Element* out;
  std::ptrdiff_t stride;
  const float* inverse;
  void operator()(int row, int column, Floats v) const {
    put(out + row * stride + column, v * inverse[row]);
  }

 private:
  static void put(float* to, Floats v) { store(to, v); }
  static void put(std::uint16_t* to, Floats v) { store_halves(to, v); }
};

struct ToBiased {
  float* out;
  int stride;
  const float* bias;
  void operator()(int row, int column, Floats v) const {
    store(out + static_cast<std::ptrdiff_t>(row) * stride + column, v + load(bias + column));
  }
};

template <int heads, int tokens>
static inline void dots(const float* asked, std::size_t asked_stride, const float* states,
                        int stride, float* scores, int scores_stride) {
  Floats sums[heads][tokens] = {};
  for (int c = 0; c < stride; c += kWidth) {
    Floats parts[tokens];
#pragma GCC unroll 16
    for (int t = 0; t < tokens; ++t)
      parts[t] = load(states + static_cast<std::size_t>(t) * stride + c);
#pragma GCC unroll 16
    for (int h = 0; h < heads; ++h) {
      const Floats part = load(asked + h * asked_stride + c);
#pragma GCC unroll 16
      for (int t = 0; t < tokens; ++t) sums[h][t] += part * parts[t];
    }
  }
#pragma GCC unroll 16
  for (int h = 0; h < heads; ++h)
#pragma GCC unroll 16
    for (int t = 0; t < tokens; ++t) scores[h * scores_stride + t] = sum_of(sums[h][t]);
}

// Scores of some tokens, of every head.
template <int tokens>
static inline void ask(int heads, const float* asked, std::size_t asked_stride,
                       const float* states, int stride, float* scores, int scores_stride) {
  int h = 0;
  for (; h + kDotHeads <= heads; h += kDotHeads)
    dots<kDotHeads, tokens>(asked + h * asked_stride, asked_stride, states, stride,
                            scores + h * scores_stride, scores_stride);
  for (; h < heads; ++h)
    dots<1, tokens>(asked + h * asked_stride, asked_stride, states, stride,
                    scores + h * scores_stride, scores_stride);
}

// One row's states by up to kAttentionRows heads: what each of them saw goes to `answers`.
template <class Element>
static inline void look(int heads, const float* asked, std::size_t head_stride,
                        const float* states, int stride, int tokens, Element* answers,
                        float* scores) {
  const int padded = rounded_up(tokens, kTokenStep);
  int t = 0;
  for (; t + kDotTokens <= tokens; t += kDotTokens)
    ask<kDotTokens>(heads, asked, head_stride, states + static_cast<std::size_t>(t) * stride,
                    stride, scores + t, padded);
  for (; t < tokens; ++t)
    ask<1>(heads, asked, head_stride, states + static_cast<std::size_t>(t) * stride, stride,
           scores + t, padded);
  float inverse[kAttentionRows];
  for (int h = 0; h < heads; ++h)
    inverse[h] = softmax<float>(scores + h * padded, tokens, padded);
  row_product<kAttentionRows>(
      heads, scores, padded, states, stride, tokens, stride,
      ToAnswer<Element>{answers, static_cast<std::ptrdiff_t>(head_stride), inverse});
}

// This member's heads of all rows, kRowStep rows at a time: work.query to work.context.
template <class Element>
static void attend_states(const NetworkView& net, const LayerView& layer, const Chunk& chunk,
                          const Workspace& work, const Team& team) {
  const int stride = work.state.stride, dim = net.head_dim;
  const std::size_t head_size = static_cast<std::size_t>(kRowStep) * stride;
  const std::size_t weights_size = static_cast<std::size_t>(dim) * stride;
  const auto* query = static_cast<const Element*>(work.query);
  const auto* keys = static_cast<const Element*>(layer.states.keys);
  const auto* values = static_cast<const Element*>(layer.states.values);
  auto* answers = static_cast<Element*>(work.answers);
  float* scores = work.scores + work.scores_size * team.member;
  const Range mine = team.share(layer.heads);
  for (int first = 0; first < chunk.rows; first += kRowStep) {
    const int rows = chunk.rows - first < kRowStep ? chunk.rows - first : kRowStep;
    for (int h = mine.begin; h < mine.end; ++h)
      for (int r = 0; r < rows; r += kAttentionRows)
        row_product<kAttentionRows>(
            rows - r < kAttentionRows ? rows - r : kAttentionRows,
            query + static_cast<std::size_t>(first + r) * work.head_stride + h * dim,
            work.head_stride, keys + h * weights_size, stride, dim, stride,
            ToFloats{work.asked + h * head_size + static_cast<std::size_t>(r) * stride, stride});
    for (int r = 0; r < rows; ++r) {
      const int start = chunk.starts[first + r], tokens = chunk.starts[first + r + 1] - start;
      for (int h = mine.begin; h < mine.end; h += kAttentionRows) {
        const std::size_t at = h * head_size + static_cast<std::size_t>(r) * stride;
        look(mine.end - h < kAttentionRows ? mine.end - h : kAttentionRows, work.asked + at,
             head_size, work.state.values + static_cast<std::size_t>(start) * stride, stride,
             tokens, answers + at, scores);
      }
    }
    for (int h = mine.begin; h < mine.end; ++h)
      for (int r = 0; r < rows; r += kAttentionRows)
        row_product<kAttentionRows>(
            rows - r < kAttentionRows ? rows - r : kAttentionRows,
            answers + h * head_size + static_cast<std::size_t>(r) * stride, stride,
            values + h * weights_size, dim, stride, dim,
            ToBiased{work.context.values +
                         static_cast<std::size_t>(first + r) * work.context.stride + h * dim,
                     work.context.stride, layer.states.bias + h * dim});
  }
}
