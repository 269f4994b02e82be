#include "encoder.hpp"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <numeric>
#include <stdexcept>

namespace miaotui {
namespace {

// Tokens that go through a network together: enough to use weights well while they are in the
// nearest caches, few enough that their own states stay there too.
constexpr int kChunkTokens = 128;
constexpr int kLeastChunkTokens = 32;
constexpr int kChunksPerThread = 4;
constexpr int kMostWidth = 1 << 16;

[[noreturn]] void refuse(const std::string& what) { throw std::invalid_argument(what); }

void require(bool holds, const std::string& what) {
  if (!holds) refuse(what);
}

void require_width(int width, const char* name) {
  require(width > 0 && width <= kMostWidth,
          std::string(name) + " is " + std::to_string(width) + "; expected 1 to 65536");
}

void require_sizes(const PlainLinear& plain, int inputs, int outputs, const char* name) {
  const int entry = plain.first ? plain.first->inputs : plain.inputs;
  require(entry == inputs && plain.outputs == outputs,
          std::string(name) + " is " + std::to_string(plain.outputs) + " x " +
              std::to_string(entry) + "; expected " + std::to_string(outputs) + " x " +
              std::to_string(inputs));
  if (!plain.first) return;
  require(plain.first->outputs == plain.inputs && !plain.first->first,
          std::string(name) + ": its two factors do not fit");
  require_width(plain.inputs, name);
}

// Where no part of attention was to stay in fp32, its own products need not be in fp32 either.
bool is_narrow(const PlainLinear& plain) {
  return plain.format != Format::fp32 && (!plain.first || plain.first->format != Format::fp32);
}

// Longest rows first, in chunks small enough that every thread gets several.
Chunks cut(const Rows& rows, int threads) {
  const auto length = [&rows](std::int64_t r) { return rows.starts[r + 1] - rows.starts[r]; };
  std::vector<std::int64_t> order(rows.count);
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(),
                   [&](std::int64_t a, std::int64_t b) { return length(a) > length(b); });
  const std::int64_t share =
      rows.starts[rows.count] / (static_cast<std::int64_t>(threads) * kChunksPerThread);
  const std::int64_t wanted =
      std::clamp<std::int64_t>(share, kLeastChunkTokens, kChunkTokens);
  Chunks chunks;
  std::int64_t tokens = 0;
  for (const std::int64_t r : order) {
    const std::int64_t needs = std::max<std::int64_t>(length(r), 1);
    if (chunks.rows.empty() || tokens + needs > wanted) {
      chunks.rows.emplace_back();
      tokens = 0;
    }
    chunks.rows.back().push_back(r);
    tokens += needs;
    chunks.most_tokens = std::max(chunks.most_tokens, static_cast<int>(tokens));
  }
  return chunks;
}

}  // namespace

// Memory of one team, for chunks of up to so many tokens.
struct Encoder::Scratch {
  int tokens, members;
  Workspace work;
  std::vector<Aligned<float>> floats;
  std::vector<Aligned<std::uint16_t>> halves;
  std::vector<Aligned<std::uint8_t>> codes;
  std::vector<std::int32_t> starts, ids, types;
  Aligned<float> logits;
  Room room;

  Scratch(const Encoder& encoder, int most_tokens, int members)
      : tokens(rounded_up(most_tokens, kRowStep)), members(members) {
    const NetworkView& net = encoder.net_;
    const int hidden = rounded_up(net.hidden, kColumns);
    work.head_stride = rounded_up(std::max(encoder.widest_heads_, 1), kColumns);
    const int rank = std::max(encoder.widest_rank_, net.embedding);
    const int inner = rounded_up(std::max(encoder.widest_inner_, 1), kColumns);
    if (!encoder.kernels_.half_attention) make_room(std::max({hidden, work.head_stride, inner,
                                                               rounded_up(rank, kColumns)}));
    work.state = state(hidden);
    work.picked = state(hidden);
    work.context = state(std::max(hidden, work.head_stride));
    work.inner = state(inner);
    work.rank = state(rounded_up(rank, kColumns));
    work.sum = values(hidden);
    work.query = region(static_cast<std::size_t>(tokens + kRowStep) * work.head_stride);
    work.key = values(work.head_stride);
    work.value = values(work.head_stride);
    const std::size_t padded = rounded_up(tokens, 2 * kHeadStep);
    work.keys_size = padded * net.head_dim;
    work.keys = region(work.keys_size * members);
    const std::size_t asked = static_cast<std::size_t>(encoder.heads_asking_) * kRowStep * hidden;
    work.asked = region(asked);
    work.answers = region(asked);
    work.scores_size = padded * encoder.kernels_.attention_rows;
    work.scores = region(work.scores_size * members);
    logits = aligned_zeros<float>(static_cast<std::size_t>(tokens) *
                                  rounded_up(net.labels, kColumns));
  }

  float* region(std::size_t count) {
    floats.push_back(aligned_zeros<float>(count));
    return floats.back().get();
  }

  float* values(int stride) { return region(static_cast<std::size_t>(tokens) * stride); }

  State state(int stride) {
    const std::size_t size = static_cast<std::size_t>(tokens) * stride;
    halves.push_back(aligned_zeros<std::uint16_t>(size));
    codes.push_back(aligned_zeros<std::uint8_t>(size));
    return {values(stride), halves.back().get(), codes.back().get(), values(1), stride, room};
  }

  // Where bf16 is not multiplied as it is, rows are widened for products of it (and maybe of codes).
  void make_room(int widest) {
    room.columns = widest + kRoomGap;
    halves.push_back(aligned_zeros<std::uint16_t>(static_cast<std::size_t>(kWidenedRows) *
                                                  room.columns * members));
    room.codes = halves.back().get();
  }
};

Encoder::Encoder(const PlainNetwork& plain, const std::string& isa) : kernels_(kernels_for(isa)) {
  require_width(plain.hidden, "hidden");
  require_width(plain.head_dim, "head_dim");
  require_width(plain.labels, "labels");
  require_width(plain.embedding, "embedding");
  require(plain.vocabulary > 0 && plain.positions > plain.position_offset &&
              plain.position_offset >= 0 && plain.types >= 0,
          "a vocabulary, its positions or its types are empty");
  require(plain.embedding == plain.hidden || plain.projection != nullptr,
          "embeddings of another width than the hidden state need a projection");
  head_dim_ = plain.head_dim;
  net_.vocabulary = plain.vocabulary;
  net_.positions = plain.positions;
  net_.position_offset = plain.position_offset;
  net_.types = plain.types;
  net_.embedding = plain.embedding;
  net_.hidden = plain.hidden;
  net_.head_dim = rounded_up(plain.head_dim, kHeadStep);
  net_.labels = plain.labels;
  net_.norm_eps = plain.norm_eps;
  net_.activation = plain.activation;
  net_.head_kind = plain.head_kind;
  net_.readout = plain.readout;
  const auto table = [this](const float* rows, int count, int width) {
    const std::size_t size = static_cast<std::size_t>(count) * width;
    floats_.push_back(aligned_zeros<float>(size));
    std::copy(rows, rows + size, floats_.back().get());
    return floats_.back().get();
  };
  net_.words = plain.words;
  words_owner_ = plain.words_owner;
  net_.position_rows = table(plain.position_rows, plain.positions, plain.embedding);
  if (plain.types > 0) net_.type_rows = table(plain.type_rows, plain.types, plain.embedding);
  net_.embedding_norm = norm(plain.embedding_norm, plain.embedding, "embeddings.norm");
  if (plain.projection)
    net_.projection = &linear(*plain.projection, plain.embedding, plain.hidden, "projection");
}

Encoder::~Encoder() = default;

const float* Encoder::keep(const std::vector<float>& values, int width, const char* name) {
  require(static_cast<int>(values.size()) == width,
          std::string(name) + " has " + std::to_string(values.size()) + " values; expected " +
              std::to_string(width));
  floats_.push_back(aligned_zeros<float>(rounded_up(width, kColumns)));
  std::copy(values.begin(), values.end(), floats_.back().get());
  return floats_.back().get();
}

NormView Encoder::norm(const PlainNorm& plain, int width, const char* name) {
  return {keep(plain.gamma, width, name), keep(plain.beta, width, name)};
}

const LinearView& Encoder::linear(const PlainLinear& plain, int inputs, int outputs,
                                  const char* name, Spread spread_out, Spread spread_in,
                                  float factor) {
  require_sizes(plain, inputs, outputs, name);
  if (plain.first) widest_rank_ = std::max(widest_rank_, plain.inputs);
  linears_.push_back(std::make_unique<PackedLinear>(plain, kernels_.panels, spread_out, spread_in,
                                                    factor));
  return linears_.back()->view();
}

void Encoder::add(const PlainLayer& plain) {
  require(!finished_ && !has_last_, "the network is finished, or has its last layer");
  has_last_ = plain.last;
  require(plain.heads >= 0 && plain.heads <= kMostWidth / net_.head_dim, "too many heads");
  require(plain.inner >= 0 && plain.inner <= kMostWidth, "too wide a feed-forward network");
  LayerView layer;
  layer.heads = plain.heads;
  layer.inner = plain.inner;
  if (plain.heads > 0) {
    add_attention(plain, layer);
  } else {
    layer.output_bias = keep(plain.output_bias, net_.hidden, "output.bias");
  }
  layer.attention_norm = norm(plain.attention_norm, net_.hidden, "attention_norm");
  if (plain.inner > 0) {
    layer.up = linear(plain.up, net_.hidden, plain.inner, "up");
    layer.down = linear(plain.down, plain.inner, net_.hidden, "down");
  } else {
    layer.down_bias = keep(plain.down_bias, net_.hidden, "down.bias");
  }
  layer.ffn_norm = norm(plain.ffn_norm, net_.hidden, "ffn_norm");
  widest_heads_ = std::max(widest_heads_, plain.heads * net_.head_dim);
  widest_inner_ = std::max(widest_inner_, plain.inner);
  layers_.push_back(layer);
}

void Encoder::add_attention(const PlainLayer& plain, LayerView& layer) {
  const int width = plain.heads * head_dim_;
  const Spread heads{head_dim_, net_.head_dim};
  const float factor = 1.0f / std::sqrt(static_cast<float>(head_dim_));
  layer.halves = kernels_.half_attention && is_narrow(plain.query) && is_narrow(plain.key) &&
                 is_narrow(plain.value);
  layer.query = linear(plain.query, net_.hidden, width, "query", heads, {}, factor);
  layer.output = linear(plain.output, width, net_.hidden, "output", {}, heads);
  if (plain.last && net_.readout == Readout::first) {
    require_sizes(plain.key, net_.hidden, width, "key");
    require_sizes(plain.value, net_.hidden, width, "value");
    states_ = std::make_unique<PackedStates>(plain.key, plain.value, heads,
                                             rounded_up(net_.hidden, kColumns), layer.halves);
    layer.states = states_->view();
    heads_asking_ = plain.heads;
    return;
  }
  layer.key = linear(plain.key, net_.hidden, width, "key", heads);
  layer.value = linear(plain.value, net_.hidden, width, "value", heads);
}

void Encoder::finish(const PlainLinear& dense, const PlainLinear& classifier) {
  require(!finished_, "the network is finished");
  require(layers_.empty() || has_last_, "no layer was said to be the last");
  if (net_.head_kind == HeadKind::none) {
    require(net_.labels == net_.hidden, "without a head there are as many labels as hidden");
  } else {
    require(dense.format == Format::fp32 && classifier.format == Format::fp32 && !dense.first &&
                !classifier.first,
            "the head is computed in fp32");
    if (net_.head_kind != HeadKind::linear)
      net_.dense = linear(dense, net_.hidden, net_.hidden, "head.dense");
    net_.classifier = linear(classifier, net_.hidden, net_.labels, "head.classifier");
  }
  net_.layers = layers_.data();
  net_.layer_count = static_cast<int>(layers_.size());
  finished_ = true;
}

void Encoder::check(const Rows& rows) const {
  require(finished_, "the network has no head yet");
  const std::int64_t most = net_.positions - net_.position_offset;
  require(rows.starts[0] == 0, "rows start at 0");
  for (std::int64_t r = 0; r < rows.count; ++r) {
    const std::int64_t length = rows.starts[r + 1] - rows.starts[r];
    if (length < 0 || length > most)
      refuse("row " + std::to_string(r) + " has " + std::to_string(length) +
             " tokens; expected 0 to " + std::to_string(most));
  }
  const std::int64_t total = rows.starts[rows.count];
  for (std::int64_t t = 0; t < total; ++t)
    if (rows.ids[t] < 0 || rows.ids[t] >= net_.vocabulary)
      refuse("token id " + std::to_string(rows.ids[t]) + " is outside the vocabulary of " +
             std::to_string(net_.vocabulary));
  for (std::int64_t t = 0; rows.types != nullptr && net_.types > 1 && t < total; ++t)
    if (rows.types[t] < 0 || rows.types[t] >= net_.types)
      refuse("type id " + std::to_string(rows.types[t]) + " is outside 0 to " +
             std::to_string(net_.types - 1));
}

std::unique_ptr<Encoder::Scratch> Encoder::borrow(int tokens, int members) {
  std::lock_guard<std::mutex> guard(scratches_lock_);
  for (auto& scratch : scratches_)
    if (scratch->tokens >= tokens && scratch->members >= members) {
      std::unique_ptr<Scratch> taken = std::move(scratch);
      scratch = std::move(scratches_.back());
      scratches_.pop_back();
      return taken;
    }
  if (!scratches_.empty()) scratches_.pop_back();  // too small: what replaces it serves its use
  return std::make_unique<Scratch>(*this, std::max(tokens, kChunkTokens), members);
}

void Encoder::give_back(std::unique_ptr<Scratch> scratch) {
  std::lock_guard<std::mutex> guard(scratches_lock_);
  scratches_.push_back(std::move(scratch));
}

// A row of no tokens is read as one token of id 0.
void Encoder::gather(const Rows& rows, const std::vector<std::int64_t>& chosen,
                     Scratch& scratch) {
  scratch.starts.assign(1, 0);
  scratch.ids.clear();
  scratch.types.clear();
  for (const std::int64_t r : chosen) {
    const std::int64_t begin = rows.starts[r], end = rows.starts[r + 1];
    scratch.ids.insert(scratch.ids.end(), rows.ids + begin, rows.ids + end);
    if (rows.types != nullptr)
      scratch.types.insert(scratch.types.end(), rows.types + begin, rows.types + end);
    if (begin == end) {
      scratch.ids.push_back(0);
      if (rows.types != nullptr) scratch.types.push_back(0);
    }
    scratch.starts.push_back(static_cast<std::int32_t>(scratch.ids.size()));
  }
}

// What was gathered, by a team that waits for each other: nothing here may throw.
void Encoder::run_chunk(const Rows& rows, const std::vector<std::int64_t>& chosen,
                        Scratch& scratch, const Team& team, float* logits) const noexcept {
  const Chunk chunk{static_cast<int>(chosen.size()), scratch.starts.data(), scratch.ids.data(),
                    rows.types != nullptr ? scratch.types.data() : nullptr,
                    scratch.logits.get()};
  kernels_.forward(net_, chunk, scratch.work, team);
  if (team.member != 0) return;
  const int stride = rounded_up(net_.labels, kColumns);
  for (std::size_t i = 0; i < chosen.size(); ++i) {
    const bool every = net_.readout == Readout::every;
    const std::int64_t r = chosen[i], to = every ? rows.starts[r] : r;
    const std::int64_t count = every ? rows.starts[r + 1] - rows.starts[r] : 1;
    const float* from =
        scratch.logits.get() + static_cast<std::size_t>(every ? scratch.starts[i] : i) * stride;
    for (std::int64_t k = 0; k < count; ++k)
      std::copy_n(from + k * stride, net_.labels, logits + (to + k) * net_.labels);
  }
}

void Encoder::run(const Rows& rows, int threads, float* logits) {
  check(rows);
  if (rows.count == 0) return;
  threads = std::max(threads, 1);
  const Chunks chunks = cut(rows, threads);
  if (chunks.rows.size() == 1)
    run_as_team(rows, chunks, threads, logits);
  else
    run_side_by_side(rows, chunks, threads, logits);
}

void Encoder::run_as_team(const Rows& rows, const Chunks& chunks, int threads, float* logits) {
  std::unique_ptr<Scratch> scratch = borrow(chunks.most_tokens, threads);
  gather(rows, chunks.rows[0], *scratch);
  Barrier barrier(threads);
  pool_.run(threads, [&](int member, int members) {
    run_chunk(rows, chunks.rows[0], *scratch, Team{member, members, &barrier}, logits);
  });
  give_back(std::move(scratch));
}

void Encoder::run_side_by_side(const Rows& rows, const Chunks& chunks, int threads,
                               float* logits) {
  const int teams = static_cast<int>(std::min<std::size_t>(threads, chunks.rows.size()));
  std::vector<std::unique_ptr<Scratch>> scratches(teams);
  for (auto& scratch : scratches) scratch = borrow(chunks.most_tokens, 1);
  std::atomic<std::size_t> next{0};
  pool_.run(teams, [&](int member, int) {
    for (std::size_t c = next++; c < chunks.rows.size(); c = next++) {
      gather(rows, chunks.rows[c], *scratches[member]);
      run_chunk(rows, chunks.rows[c], *scratches[member], Team{}, logits);
    }
  });
  for (auto& scratch : scratches) give_back(std::move(scratch));
}

}  // namespace miaotui
