// Attention of one head over one row: scores against transposed keys, softmax, weighted values.
#pragma once

// out = a b: `rows` rows of a, `groups` groups of 16 columns, everything in registers.
template <int rows, int groups>
static inline void small_product(const float* a, int a_stride, const float* b, int b_stride,
                                 int depth, float* out, int out_stride) {
  constexpr int vectors = groups * kHeadStep / kWidth;
  Floats sums[rows][vectors] = {};
  for (int k = 0; k < depth; ++k) {
    Floats columns[vectors];
#pragma GCC unroll 16
    for (int v = 0; v < vectors; ++v)
      columns[v] = load(b + static_cast<std::size_t>(k) * b_stride + v * kWidth);
#pragma GCC unroll 16
    for (int r = 0; r < rows; ++r) {
      const Floats value = all(a[static_cast<std::size_t>(r) * a_stride + k]);
#pragma GCC unroll 16
      for (int v = 0; v < vectors; ++v) sums[r][v] += value * columns[v];
    }
  }
#pragma GCC unroll 16
  for (int r = 0; r < rows; ++r)
#pragma GCC unroll 16
    for (int v = 0; v < vectors; ++v)
      store(out + static_cast<std::size_t>(r) * out_stride + v * kWidth, sums[r][v]);
}

template <int rows>
static inline void row_product(const float* a, int a_stride, const float* b, int b_stride,
                               int depth, int columns, float* out, int out_stride) {
  int c = 0;
  for (; c + kGroups * kHeadStep <= columns; c += kGroups * kHeadStep)
    small_product<rows, kGroups>(a, a_stride, b + c, b_stride, depth, out + c, out_stride);
  for (; c < columns; c += kHeadStep)
    small_product<rows, 1>(a, a_stride, b + c, b_stride, depth, out + c, out_stride);
}

// Scores to weights that are not yet divided by their sum; the sum's inverse is returned.
static inline float softmax(float* scores, int tokens, int padded) {
  for (int t = tokens; t < padded; ++t) scores[t] = -1e30f;
  Floats most = load(scores);
  for (int t = kWidth; t < padded; t += kWidth) most = larger(most, load(scores + t));
  const float largest = largest_of(most);
  Floats total = {};
  for (int t = 0; t < padded; t += kWidth) {
    const Floats weight = exponential(load(scores + t) - largest);
    store(scores + t, weight);
    total += weight;
  }
  return 1.0f / sum_of(total);
}

struct HeadRow {
  const float* query;  // [queries][stride]
  const float* keys;   // [head_dim][padded tokens]
  const float* value;  // [tokens][stride]
  float* context;      // [queries][context stride]
  int stride, context_stride, head_dim, tokens;
};

template <int rows>
static inline void attend(const HeadRow& head, int query, float* scores) {
  const int padded = rounded_up(head.tokens, kHeadStep);
  row_product<rows>(head.query + static_cast<std::size_t>(query) * head.stride, head.stride,
                    head.keys, padded, head.head_dim, padded, scores, padded);
  float inverse[rows];
  for (int r = 0; r < rows; ++r) inverse[r] = softmax(scores + r * padded, head.tokens, padded);
  float* out = head.context + static_cast<std::size_t>(query) * head.context_stride;
  row_product<rows>(scores, padded, head.value, head.stride, head.tokens, head.head_dim, out,
                    head.context_stride);
  for (int r = 0; r < rows; ++r)
    for (int c = 0; c < head.head_dim; c += kWidth) {
      float* at = out + static_cast<std::size_t>(r) * head.context_stride + c;
      store(at, load(at) * inverse[r]);
    }
}

template <int rows>
static void attend_last(const HeadRow& head, int query, int left, float* scores) {
  if constexpr (rows > 0) {
    if (left == rows)
      attend<rows>(head, query, scores);
    else
      attend_last<rows - 1>(head, query, left, scores);
  }
}

static void transpose_keys(const float* key, int stride, int tokens, int head_dim, float* keys) {
  const int padded = rounded_up(tokens, kHeadStep);
  for (int d = 0; d < head_dim; ++d) {
    float* to = keys + static_cast<std::size_t>(d) * padded;
    for (int t = 0; t < tokens; ++t) to[t] = key[static_cast<std::size_t>(t) * stride + d];
    for (int t = tokens; t < padded; ++t) to[t] = 0.0f;
  }
}

// This member's share of all heads of all rows. `first_only`: a row has one query, its first token.
static void attention(const NetworkView& net, const LayerView& layer, const Chunk& chunk,
                      const Workspace& work, bool first_only, const Team& team) {
  float* keys = work.keys + work.keys_size * team.member;
  float* scores = work.scores + work.scores_size * team.member;
  const Range mine = team.share(chunk.rows * layer.heads);
  for (int unit = mine.begin; unit < mine.end; ++unit) {
    const int row = unit / layer.heads, head = unit % layer.heads;
    const int start = chunk.starts[row], tokens = chunk.starts[row + 1] - start;
    const int first = first_only ? row : start, queries = first_only ? 1 : tokens;
    const int column = head * net.head_dim;
    const std::size_t at = static_cast<std::size_t>(start) * work.head_stride + column;
    transpose_keys(work.key + at, work.head_stride, tokens, net.head_dim, keys);
    const HeadRow one{work.query + static_cast<std::size_t>(first) * work.head_stride + column,
                      keys,
                      work.value + at,
                      work.context.values +
                          static_cast<std::size_t>(first) * work.context.stride + column,
                      work.head_stride,
                      work.context.stride,
                      net.head_dim,
                      tokens};
    int query = 0;
    for (; query + kAttentionRows <= queries; query += kAttentionRows)
      attend<kAttentionRows>(one, query, scores);
    attend_last<kAttentionRows - 1>(one, query, queries - query, scores);
  }
}
