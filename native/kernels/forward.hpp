// One chunk through the whole network, by a team that shares every step. Included once for each
// instruction set, in a namespace of its own.
#pragma once

#include "vectors.hpp"
#include "product.hpp"
#include "normalize.hpp"
#include "attention.hpp"
#include "states.hpp"

static inline Wants wants(Format format) {
  return {format == Format::int8, format == Format::bf16};
}

static inline Wants wants(const LinearView& linear) { return wants(linear.entry().format); }

// Of all tokens' states; where first tokens alone ask, what their query wants is prepared for them.
static inline Wants attention_wants(const LayerView& layer) {
  if (layer.heads == 0 || layer.states.keys != nullptr) return {false, false};
  const Wants query = wants(layer.query), key = wants(layer.key), value = wants(layer.value);
  return {query.codes || key.codes || value.codes, query.halves || key.halves || value.halves};
}

static inline Wants ffn_wants(const LayerView& layer) {
  return layer.inner > 0 ? wants(layer.up) : Wants{false, false};
}

// Two codes' worth of scales never mix: a calibrated product ignores those of its rows.
static inline Input input_of(const LinearView& linear, const State& state, int rows) {
  const float* scales = linear.input_scale > 0.0f ? nullptr : state.scales;
  return {state.values, state.halves, state.codes, scales, state.stride, rows, state.room};
}

// A product, or the two of a low-rank pair; the state already has what the first of them wants.
template <class Out>
static void apply(const LinearView& linear, const State& state, int rows, const Workspace& work,
                  const Team& team, const Out& out) {
  if (linear.first == nullptr) {
    multiply(linear, input_of(linear, state, rows), team, out);
    return;
  }
  multiply(*linear.first, input_of(*linear.first, state, rows), team,
           ToFloats{work.rank.values, work.rank.stride});
  team.sync();
  if (wants(linear.format).any()) {
    prepare_rows(work.rank, linear.rank, rows, wants(linear.format), team);
    team.sync();
  }
  multiply(linear, input_of(linear, work.rank, rows), team, out);
  team.sync();  // the next pair writes the same scratch
}

static void embed(const NetworkView& net, const Chunk& chunk, const Workspace& work,
                  const Team& team) {
  const int stride = work.rank.stride, padded = rounded_up(net.embedding, kColumns);
  float* to_rows = net.projection != nullptr ? work.rank.values : work.state.values;
  const int to_stride = net.projection != nullptr ? stride : work.state.stride;
  const Range mine = team.share(chunk.rows);
  for (int row = mine.begin; row < mine.end; ++row)
    for (int t = chunk.starts[row]; t < chunk.starts[row + 1]; ++t) {
      const std::size_t width = net.embedding;
      const float* word = net.words + chunk.ids[t] * width;
      const float* position =
          net.position_rows + (t - chunk.starts[row] + net.position_offset) * width;
      const float* type = nullptr;
      if (net.types > 0)
        type = net.type_rows +
               (chunk.types != nullptr && net.types > 1 ? chunk.types[t] * width : 0);
      float* to = to_rows + static_cast<std::size_t>(t) * to_stride;
      for (std::size_t c = 0; c < width; ++c)
        to[c] = word[c] + position[c] + (type != nullptr ? type[c] : 0.0f);
      for (int c = net.embedding; c < padded; ++c) to[c] = 0.0f;
      normalize_row(to, to, net.embedding, padded, net.embedding_norm, net.norm_eps);
    }
  team.sync();
  if (net.projection != nullptr) {
    const State rows{to_rows, nullptr, nullptr, nullptr, to_stride};
    multiply(*net.projection, input_of(*net.projection, rows, chunk.tokens()), team,
             ToFloats{work.state.values, work.state.stride});
    team.sync();
  }
}

// The first tokens' states, one after another.
static void pick_rows(const Chunk& chunk, const Workspace& work, int width, Wants wanted,
                      const Team& team) {
  const Range mine = team.share(chunk.rows);
  const std::size_t stride = work.state.stride;
  for (int row = mine.begin; row < mine.end; ++row) {
    std::memcpy(work.picked.values + row * stride, work.state.values + chunk.starts[row] * stride,
                stride * sizeof(float));
    prepare_row(work.picked, rounded_up(width, 16), row, wanted);
  }
  team.sync();
}

static void add_bias(const State& state, const float* bias, int rows, float* sum,
                     const Team& team) {
  const Range mine = team.share(rows);
  for (int r = mine.begin; r < mine.end; ++r)
    for (int c = 0; c < state.stride; c += kWidth) {
      const std::size_t at = static_cast<std::size_t>(r) * state.stride + c;
      store(sum + at, load(state.values + at) + load(bias + c));
    }
  team.sync();
}

static inline ToFloats out_as(float* out, int stride) { return {out, stride}; }

static inline ToHalves<unchanged> out_as(std::uint16_t* out, int stride) { return {out, stride}; }

template <class Element>
static void attend_rows(const NetworkView& net, const LayerView& layer, const Chunk& chunk,
                        const State& asking, int queries, const Workspace& work,
                        const Team& team) {
  const auto out = [&](void* to) { return out_as(static_cast<Element*>(to), work.head_stride); };
  const int tokens = chunk.tokens();
  apply(layer.query, asking, queries, work, team, out(work.query));
  if (layer.states.keys != nullptr) {
    team.sync();
    attend_states<Element>(net, layer, chunk, work, team);
    team.sync();
    return;
  }
  apply(layer.key, work.state, tokens, work, team, out(work.key));
  apply(layer.value, work.state, tokens, work, team, out(work.value));
  team.sync();
  attention<Element>(net, layer, chunk, work, team);
  team.sync();
}

// sum = state + attention; queries are the rows of `asking`.
static void attention_half(const NetworkView& net, const LayerView& layer, const Chunk& chunk,
                           const State& asking, int queries, const Workspace& work,
                           const Team& team) {
  if (layer.heads == 0) {
    add_bias(asking, layer.output_bias, queries, work.sum, team);
    return;
  }
  if (layer.halves)
    attend_rows<std::uint16_t>(net, layer, chunk, asking, queries, work, team);
  else
    attend_rows<float>(net, layer, chunk, asking, queries, work, team);
  if (wants(layer.output).any()) {
    prepare_rows(work.context, layer.heads * net.head_dim, queries, wants(layer.output), team);
    team.sync();
  }
  apply(layer.output, work.context, queries, work, team,
        ToSum{work.sum, asking.values, asking.stride});
  team.sync();
}

template <Floats (*activate)(Floats)>
static void up_product(const LayerView& layer, const State& state, int rows, const Workspace& work,
                       const Team& team) {
  const LinearView& next = layer.down.entry();
  if (next.format == Format::int8 && next.input_scale > 0.0f) {
    apply(layer.up, state, rows, work, team,
          ToCodes<activate>{work.inner.codes, work.inner.stride, 1.0f / next.input_scale,
                            static_cast<float>(next.input_zero)});
    team.sync();
    return;
  }
  if (next.format == Format::bf16) {
    apply(layer.up, state, rows, work, team,
          ToHalves<activate>{work.inner.halves, work.inner.stride});
    team.sync();
    return;
  }
  apply(layer.up, state, rows, work, team,
        ToActivated<activate>{work.inner.values, work.inner.stride});
  team.sync();
  if (next.format == Format::int8) {
    prepare_rows(work.inner, layer.inner, rows, wants(next), team);
    team.sync();
  }
}

static void ffn_half(const NetworkView& net, const LayerView& layer, const State& state, int rows,
                     const Workspace& work, const Team& team) {
  if (layer.inner == 0) {
    add_bias(state, layer.down_bias, rows, work.sum, team);
    return;
  }
  switch (net.activation) {
    case Activation::gelu: up_product<gelu>(layer, state, rows, work, team); break;
    case Activation::gelu_tanh: up_product<gelu_tanh>(layer, state, rows, work, team); break;
    case Activation::relu: up_product<relu>(layer, state, rows, work, team); break;
  }
  apply(layer.down, work.inner, rows, work, team, ToSum{work.sum, state.values, state.stride});
  team.sync();
}

// The mean of each row's states, in the order of its tokens.
static void average_rows(const NetworkView& net, const Chunk& chunk, const Workspace& work,
                         const Team& team) {
  const Range mine = team.share(chunk.rows);
  const int stride = work.state.stride;
  for (int row = mine.begin; row < mine.end; ++row) {
    const int start = chunk.starts[row], end = chunk.starts[row + 1];
    const float share = 1.0f / static_cast<float>(end - start);
    for (int c = 0; c < rounded_up(net.hidden, kWidth); c += kWidth) {
      Floats total = {};
      for (int t = start; t < end; ++t)
        total += load(work.state.values + static_cast<std::size_t>(t) * stride + c);
      store(work.picked.values + static_cast<std::size_t>(row) * stride + c, total * share);
    }
  }
  team.sync();
}

static void copy_states(const State& state, const Chunk& chunk, int rows, const Team& team) {
  const Range mine = team.share(rows);
  for (int r = mine.begin; r < mine.end; ++r) {
    const std::size_t at = static_cast<std::size_t>(r) * state.stride;  // that of the logits too
    std::memcpy(chunk.logits + at, state.values + at, state.stride * sizeof(float));
  }
  team.sync();
}

static void head(const NetworkView& net, const Chunk& chunk, const State& state, int rows,
                 const Workspace& work, const Team& team) {
  const Input in = input_of(net.dense, state, rows);
  const bool linear = net.head_kind == HeadKind::linear;
  // As wide as the widest layer and as the hidden state.
  const State& to = linear ? state : work.context;
  switch (net.head_kind) {
    case HeadKind::linear: break;
    case HeadKind::tanh:
      multiply(net.dense, in, team, ToActivated<tanh_of>{to.values, to.stride});
      break;
    case HeadKind::gelu:
      multiply(net.dense, in, team, ToActivated<gelu>{to.values, to.stride});
      break;
    case HeadKind::relu:
      multiply(net.dense, in, team, ToActivated<relu>{to.values, to.stride});
      break;
    case HeadKind::none:
      copy_states(state, chunk, rows, team);
      return;
  }
  team.sync();
  multiply(net.classifier, input_of(net.classifier, to, rows), team,
           ToFloats{chunk.logits, rounded_up(net.labels, kColumns)});
  team.sync();
}

// Where first tokens are read out, the last layer computes queries, and all that follows, for them
// alone: exact, and most of a layer saved.
void forward(const NetworkView& net, const Chunk& chunk, const Workspace& work, const Team& team) {
  embed(net, chunk, work, team);
  if (net.layer_count > 0)
    prepare_rows(work.state, net.hidden, chunk.tokens(), attention_wants(net.layers[0]), team);
  team.sync();
  for (int l = 0; l < net.layer_count; ++l) {
    const LayerView& layer = net.layers[l];
    const bool last = l + 1 == net.layer_count;
    const bool picks = last && net.readout == Readout::first;
    if (picks) {
      const Wants asking = layer.heads > 0 ? wants(layer.query) : Wants{false, false};
      pick_rows(chunk, work, net.hidden, asking, team);
    }
    const State& state = picks ? work.picked : work.state;
    const int rows = picks ? chunk.rows : chunk.tokens();
    attention_half(net, layer, chunk, state, rows, work, team);
    normalize_rows(work.sum, state, net.hidden, rows, layer.attention_norm, net.norm_eps,
                   ffn_wants(layer), team);
    team.sync();
    ffn_half(net, layer, state, rows, work, team);
    normalize_rows(work.sum, state, net.hidden, rows, layer.ffn_norm, net.norm_eps,
                   last ? Wants{false, false} : attention_wants(net.layers[l + 1]), team);
    team.sync();
  }
  switch (net.readout) {
    case Readout::first:
      if (net.layer_count == 0) pick_rows(chunk, work, net.hidden, {false, false}, team);
      head(net, chunk, work.picked, chunk.rows, work, team);
      break;
    case Readout::mean:
      average_rows(net, chunk, work, team);
      head(net, chunk, work.picked, chunk.rows, work, team);
      break;
    case Readout::every:
      head(net, chunk, work.state, chunk.tokens(), work, team);
      break;
  }
}
