// The encoder without Python, for the sanitizers: every instruction set here, uneven layers, rows
// alone and together, several callers at once, rows that must be refused.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <random>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "../encoder.hpp"

using namespace miaotui;

namespace {

constexpr int kVocabulary = 50, kPositions = 70, kTypes = 2, kLabels = 3;

[[noreturn]] void fail(const std::string& what) {
  std::fprintf(stderr, "FAILED: %s\n", what.c_str());
  std::exit(1);
}

void expect(bool holds, const std::string& what) {
  if (!holds) fail(what);
}

std::mt19937 draw(7);

int largest_code = 127;  // of the weights: what may be done with them depends on it (groups.hpp)

std::vector<float> randoms(std::size_t count, float spread) {
  std::normal_distribution<float> normal(0.0f, spread);
  std::vector<float> values(count);
  for (float& value : values) value = normal(draw);
  return values;
}

// Holds what PlainLinears borrow while a network is put together.
struct Weights {
  float key_bias = 0.0f;  // added to all keys: the same to all scores of a query
  std::vector<std::vector<float>> floats;
  std::vector<std::vector<std::int8_t>> codes;
  std::vector<std::vector<std::uint16_t>> halves;

  const float* keep(std::vector<float> values) {
    floats.push_back(std::move(values));
    return floats.back().data();
  }

  PlainLinear linear(int outputs, int inputs, Format format, bool calibrated = false) {
    PlainLinear plain;
    plain.outputs = outputs;
    plain.inputs = inputs;
    plain.bias = keep(randoms(outputs, 0.1f));
    plain.format = format;
    if (format != Format::int8) {
      plain.values = keep(randoms(static_cast<std::size_t>(outputs) * inputs, 0.3f));
      if (format == Format::fp32) return plain;
      halves.emplace_back(static_cast<std::size_t>(outputs) * inputs);
      for (std::size_t i = 0; i < halves.back().size(); ++i) {
        std::uint32_t bits;
        std::memcpy(&bits, plain.values + i, 4);
        halves.back()[i] = static_cast<std::uint16_t>(bits >> 16);
      }
      plain.halves = halves.back().data();
      return plain;
    }
    std::uniform_int_distribution<int> code(-largest_code, largest_code);
    codes.emplace_back(static_cast<std::size_t>(outputs) * inputs);
    for (std::int8_t& value : codes.back()) value = static_cast<std::int8_t>(code(draw));
    plain.codes = codes.back().data();
    plain.scales = keep(std::vector<float>(outputs, 0.004f));
    if (calibrated) plain.input_low = -0.2f, plain.input_high = 4.0f;
    return plain;
  }

  PlainLinear pair(int outputs, int rank, int inputs, Format format) {
    PlainLinear second = linear(outputs, rank, format);
    second.first = std::make_shared<PlainLinear>(linear(rank, inputs, format));
    return second;
  }
};

PlainNorm norm(int width) { return {std::vector<float>(width, 1.0f), randoms(width, 0.1f)}; }

void add_layer(Encoder& encoder, Weights& weights, int hidden, int head_dim, int heads, int inner,
               Format format, Format other, bool calibrated, bool last = false) {
  PlainLayer layer;
  layer.last = last;
  layer.heads = heads;
  layer.inner = inner;
  layer.attention_norm = norm(hidden);
  layer.ffn_norm = norm(hidden);
  layer.output_bias = layer.down_bias = randoms(hidden, 0.1f);
  if (heads > 0) {
    layer.query = weights.pair(heads * head_dim, 3, hidden, format);
    layer.key = weights.linear(heads * head_dim, hidden, format);
    std::vector<float> bias(layer.key.bias, layer.key.bias + heads * head_dim);
    for (float& value : bias) value += weights.key_bias;
    layer.key.bias = weights.keep(std::move(bias));
    layer.value = weights.linear(heads * head_dim, hidden, other);
    layer.output = weights.linear(hidden, heads * head_dim, format);
  }
  if (inner > 0) {
    layer.up = weights.linear(inner, hidden, format);
    layer.down = weights.linear(hidden, inner, format, calibrated);
  }
  encoder.add(layer);
}

// Most linears in one format, some in another.
std::unique_ptr<Encoder> network(const std::string& isa, int hidden, int head_dim, Format format,
                                 Readout readout = Readout::first,
                                 HeadKind head = HeadKind::tanh, float key_bias = 0.0f) {
  draw.seed(7);
  const Format other = format == Format::int8 ? Format::fp32 : Format::int8;
  Weights weights;
  weights.key_bias = key_bias;
  PlainNetwork plain;
  plain.hidden = hidden;
  plain.embedding = 24;
  plain.head_dim = head_dim;
  plain.labels = head == HeadKind::none ? hidden : kLabels;
  plain.head_kind = head;
  plain.readout = readout;
  plain.vocabulary = kVocabulary;
  plain.positions = kPositions;
  plain.position_offset = 2;
  plain.types = kTypes;
  plain.norm_eps = 1e-12f;
  const auto words = std::make_shared<std::vector<float>>(randoms(kVocabulary * 24, 1.0f));
  plain.words = words->data();
  plain.words_owner = words;
  plain.position_rows = weights.keep(randoms(kPositions * 24, 1.0f));
  plain.type_rows = weights.keep(randoms(kTypes * 24, 1.0f));
  plain.embedding_norm = norm(24);
  plain.projection = std::make_shared<PlainLinear>(weights.linear(hidden, 24, Format::fp32));
  auto encoder = std::make_unique<Encoder>(plain, isa);
  add_layer(*encoder, weights, hidden, head_dim, 3, 52, format, other, true);
  add_layer(*encoder, weights, hidden, head_dim, 0, 20, format, other, false);
  add_layer(*encoder, weights, hidden, head_dim, 1, 0, other, format, false);
  add_layer(*encoder, weights, hidden, head_dim, 2, 7, format, other, false, true);
  encoder->finish(weights.linear(hidden, hidden, Format::fp32),
                  weights.linear(kLabels, hidden, Format::fp32));
  return encoder;
}

struct Batch {
  std::vector<std::int32_t> ids, types;
  std::vector<std::int64_t> starts{0};

  void add(const std::int32_t* row_ids, const std::int32_t* row_types, std::int64_t length) {
    ids.insert(ids.end(), row_ids, row_ids + length);
    types.insert(types.end(), row_types, row_types + length);
    starts.push_back(static_cast<std::int64_t>(ids.size()));
  }

  Rows rows() const {
    return {ids.data(), types.data(), starts.data(), static_cast<std::int64_t>(starts.size()) - 1};
  }
};

Batch random_batch(int rows) {
  std::uniform_int_distribution<int> id(0, kVocabulary - 1), type(0, kTypes - 1);
  std::uniform_int_distribution<int> length(0, kPositions - 2);
  Batch batch;
  for (int r = 0; r < rows; ++r) {
    const int tokens = r == 0 ? kPositions - 2 : r == 1 ? 0 : r == 2 ? 1 : length(draw);
    std::vector<std::int32_t> ids(tokens), types(tokens);
    for (int t = 0; t < tokens; ++t) ids[t] = id(draw), types[t] = type(draw);
    batch.add(ids.data(), types.data(), tokens);
  }
  return batch;
}

std::vector<float> logits_of(Encoder& encoder, const Rows& rows, int threads) {
  std::vector<float> logits(static_cast<std::size_t>(encoder.readouts(rows)) * encoder.labels(),
                            NAN);
  encoder.run(rows, threads, logits.data());
  return logits;
}

// Row by row on one thread: what every other way of running them must equal, bit by bit.
std::vector<float> one_by_one(Encoder& encoder, const Batch& batch) {
  std::vector<float> all;
  for (std::size_t r = 0; r + 1 < batch.starts.size(); ++r) {
    Batch one;
    const std::int64_t begin = batch.starts[r];
    one.add(batch.ids.data() + begin, batch.types.data() + begin, batch.starts[r + 1] - begin);
    const std::vector<float> logits = logits_of(encoder, one.rows(), 1);
    all.insert(all.end(), logits.begin(), logits.end());
  }
  for (const float value : all) expect(std::isfinite(value), "a logit is not finite");
  return all;
}

void test_same_bits(Encoder& encoder, const std::string& name) {
  const Batch batch = random_batch(14);
  const std::vector<float> expected = one_by_one(encoder, batch);
  for (const int threads : {1, 3})
    expect(logits_of(encoder, batch.rows(), threads) == expected, name + ": bits differ");
  Batch one;  // shared by all threads, which wait for each other at every step
  one.add(batch.ids.data(), batch.types.data(), batch.starts[1]);
  const std::vector<float> first(expected.begin(),
                                 expected.begin() + encoder.readouts(one.rows()) * encoder.labels());
  for (const int threads : {2, 3})
    expect(logits_of(encoder, one.rows(), threads) == first, name + ": a team's bits differ");
  std::vector<std::thread> callers;
  for (int c = 0; c < 3; ++c)
    callers.emplace_back([&] {
      expect(logits_of(encoder, batch.rows(), 2) == expected, name + ": a caller's bits differ");
    });
  for (std::thread& caller : callers) caller.join();
}

// All kernels within the rounding of a code on an edge, or of attention in bf16 where some compute it
// so, whose scores here reach into the hundreds; those that share AVX-512's vectors in every bit, but
// for bf16, and those that share AVX2's: sums of codes are exact.
void test_paths_agree(int hidden, int head_dim, Format format, float key_bias = 0.0f) {
  std::vector<float> first, of_avx_vnni;
  std::string first_name;
  for (const std::string& isa : kernels_here()) {
    const auto encoder =
        network(isa, hidden, head_dim, format, Readout::first, HeadKind::tanh, key_bias);
    draw.seed(11);
    const std::vector<float> logits = one_by_one(*encoder, random_batch(40));
    if (isa == "avx_vnni") of_avx_vnni = logits;
    if (isa == "avx2")
      expect(of_avx_vnni.empty() || logits == of_avx_vnni,
             "avx2 and avx_vnni differ at codes up to " + std::to_string(largest_code));
    if (first.empty()) {
      first = logits;
      first_name = isa;
      continue;
    }
    const auto [low, high] = std::minmax_element(first.begin(), first.end());
    const bool twins =
        format != Format::bf16 && first_name == "amx" && isa.compare(0, 6, "avx512") == 0;
    float most = 0.0f;
    for (std::size_t i = 0; i < logits.size(); ++i)
      most = std::max(most, std::fabs(logits[i] - first[i]));
    const float share = most / (*high - *low);
    const auto attends_in_halves = [](const std::string& name) {
      return name == "amx" || name == "avx512_bf16";
    };
    const bool alike =
        format == Format::fp32 || attends_in_halves(isa) == attends_in_halves(first_name);
    expect(share <= (twins ? 0.0f : alike ? 0.02f : 0.08f),
           isa + " and " + first_name + " disagree by " + std::to_string(share) + " at hidden " +
               std::to_string(hidden));
  }
}

void test_refusals(Encoder& encoder, const std::string& name) {
  const auto refused = [&](std::vector<std::int32_t> ids, std::vector<std::int32_t> types,
                           std::vector<std::int64_t> starts) {
    try {
      Rows rows{ids.data(), types.data(), starts.data(),
                static_cast<std::int64_t>(starts.size()) - 1};
      logits_of(encoder, rows, 2);
    } catch (const std::invalid_argument&) {
      return true;
    }
    return false;
  };
  expect(refused({kVocabulary}, {0}, {0, 1}), name + ": an id beyond the vocabulary");
  expect(refused({-1}, {0}, {0, 1}), name + ": an id below 0");
  expect(refused({1}, {kTypes}, {0, 1}), name + ": a type that does not exist");
  expect(refused({1, 1}, {0, 0}, {0, 2, 1}), name + ": a row that ends before it starts");
  const std::vector<std::int32_t> long_row(kPositions - 1, 1), zeros(kPositions - 1, 0);
  expect(refused(long_row, zeros, {0, kPositions - 1}), name + ": too long a row");
}

std::string names_here() {
  std::string names;
  for (const std::string& isa : kernels_here()) names += " " + isa;
  return names;
}

}  // namespace

// With `threads` only what threads do together, which is enough for the thread sanitizer; with
// `kernels` only whether all instruction sets agree.
int main(int arguments, char** given) {
  int tested = 0;
  const std::string only = arguments > 1 ? given[1] : "";
  const bool whole = only.empty();
  for (const Format format : {Format::fp32, Format::bf16, Format::int8})
    for (const auto& [hidden, head_dim] : {std::pair{32, 8}, {72, 32}, {129, 43}})
      for (const float key_bias : {0.0f, 12.0f})
        if (only != "threads") test_paths_agree(hidden, head_dim, format, key_bias);
  for (const int largest : {90, 63, 40, 12}) {
    if (only == "threads") break;
    largest_code = largest;
    test_paths_agree(129, 43, Format::int8);
  }
  largest_code = 127;
  if (only == "kernels") {
    std::printf("all agree:%s\n", names_here().c_str());
    return 0;
  }
  for (const std::string& isa : kernels_here())
    for (const auto& [format, format_name] :
         {std::pair{Format::fp32, " fp32 "}, {Format::bf16, " bf16 "}, {Format::int8, " int8 "}})
      for (const auto& [hidden, head_dim] : {std::pair{32, 8}, {72, 32}, {129, 43}}) {
        if (!whole && hidden != 72) continue;
        const std::string name = isa + format_name + std::to_string(hidden);
        const auto encoder = network(isa, hidden, head_dim, format);
        test_same_bits(*encoder, name);
        test_refusals(*encoder, name);
        ++tested;
      }
  for (const std::string& isa : kernels_here())
    for (const auto& [readout, name] :
         {std::pair{Readout::mean, " mean"}, {Readout::every, " every"}, {Readout::first, ""}})
      for (const HeadKind head : {HeadKind::tanh, HeadKind::linear, HeadKind::none}) {
        if (!whole && head != HeadKind::none) continue;
        const auto encoder = network(isa, 72, 32, Format::bf16, readout, head);
        test_same_bits(*encoder, isa + name + (head == HeadKind::none     ? " without a head"
                                                     : head == HeadKind::linear ? " with a linear head"
                                                                                : ""));
        ++tested;
      }
  for (const std::string& isa : kernels_here())
    for (const Format format : {Format::fp32, Format::bf16}) {
      if (!whole) continue;
      const auto encoder =
          network(isa, 72, 32, format, Readout::every, HeadKind::tanh, 12.0f);
      test_same_bits(*encoder, isa + " scores beyond an exponential");
      ++tested;
    }
  std::printf("%d networks passed:%s\n", tested, names_here().c_str());
}
