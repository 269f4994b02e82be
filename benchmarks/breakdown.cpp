// Where a layer's time goes: every step of the native engine alone, on one core, over one chunk of
// 128 tokens, or one row where that is longer. Prints a step, nanoseconds a token, and for products
// 1e9 operations a second.
//
// Arguments: hidden, heads, inner, tokens a row, bits of a weight. Compiled with -march=native; the kernels are those of
// the best instruction set that the compiler was told of, but for AMX.
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <random>
#include <vector>

#include "../native/groups.cpp"
#include "../native/packing.cpp"
#include "../native/processor.cpp"
#include "../native/team.cpp"
#if defined(__AVX512BF16__)
#include "../native/isa/avx512_bf16.cpp"
namespace kernels = miaotui::avx512_bf16;
#define KERNELS miaotui::kAvx512Bf16
#elif defined(__AVX512VNNI__)
#include "../native/isa/avx512_vnni.cpp"
namespace kernels = miaotui::avx512_vnni;
#define KERNELS miaotui::kAvx512Vnni
#elif defined(__AVX2__)
#include "../native/isa/avx2.cpp"
namespace kernels = miaotui::avx2;
#define KERNELS miaotui::kAvx2
#else
#include "../native/isa/portable.cpp"
namespace kernels = miaotui::portable;
#define KERNELS miaotui::kPortable
#endif

using namespace miaotui;

namespace {

int tokens = 128;  // or one row, if that is longer
int weight_bits = 8;

std::mt19937 draw(0);

std::vector<float> randoms(std::size_t count) {
  std::normal_distribution<float> normal(0.0f, 1.0f);
  std::vector<float> values(count);
  for (float& value : values) value = normal(draw);
  return values;
}

struct Product {
  std::vector<std::int8_t> codes;
  std::vector<float> scales, bias;
  PlainLinear plain;
  std::unique_ptr<PackedLinear> packed;

  // Standard normal inputs give standard normal outputs: weights are normal, the largest of an
  // output's the largest code.
  Product(int outputs, int inputs, bool calibrated = false) {
    for (int o = 0; o < outputs; ++o) {
      const std::vector<float> weights = randoms(inputs);
      const auto [low, high] = std::minmax_element(weights.begin(), weights.end());
      const float step = std::max(-*low, *high) / static_cast<float>((1 << (weight_bits - 1)) - 1);
      for (const float weight : weights)
        codes.push_back(static_cast<std::int8_t>(std::lrint(weight / step)));
      scales.push_back(step / std::sqrt(static_cast<float>(inputs)));
    }
    bias = randoms(outputs);
    plain.format = Format::int8;
    plain.inputs = inputs;
    plain.outputs = outputs;
    plain.codes = codes.data();
    plain.scales = scales.data();
    plain.bias = bias.data();
    if (calibrated) plain.input_low = -0.2f, plain.input_high = 6.0f;
    packed = std::make_unique<PackedLinear>(plain, KERNELS.panels);
  }

  const LinearView& view() const { return packed->view(); }
};

struct Memory {
  std::vector<Aligned<float>> floats;
  std::vector<Aligned<std::uint16_t>> halves;
  std::vector<Aligned<std::uint8_t>> codes;

  Room room;

  void make_room(int widest) {
    room.columns = widest + kRoomGap;
    halves.push_back(
        aligned_zeros<std::uint16_t>(static_cast<std::size_t>(kWidenedRows) * room.columns));
    room.codes = halves.back().get();
  }

  float* values(std::size_t count) {
    floats.push_back(aligned_zeros<float>(count));
    const std::vector<float> some = randoms(count);
    std::copy(some.begin(), some.end(), floats.back().get());
    return floats.back().get();
  }

  State state(int stride) {
    const std::size_t size = static_cast<std::size_t>(tokens) * stride;
    halves.push_back(aligned_zeros<std::uint16_t>(size));
    codes.push_back(aligned_zeros<std::uint8_t>(size));
    return {values(size), halves.back().get(), codes.back().get(), values(tokens), stride, room};
  }
};

double processor_seconds() {
  timespec now;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
}

template <class Step>
double report(const char* name, double operations, const Step& step) {
  // The shortest of many, in the processor's time: other work takes the core between and within.
  double best = 1e9, all = 0.0;
  for (int repeat = 0; repeat < 30 || all < 0.25; ++repeat) {
    const double began = processor_seconds();
    step();
    const double took = processor_seconds() - began;
    best = std::min(best, took);
    all += took;
  }
  std::printf("%s %.1f %.1f\n", name, best / tokens * 1e9, operations / best / 1e9);
  return best;
}

}  // namespace

int main(int count, char** given) {
  if (count != 6) return 1;
  const int hidden = std::atoi(given[1]), heads = std::atoi(given[2]);
  const int inner = std::atoi(given[3]), length = std::atoi(given[4]);
  weight_bits = std::atoi(given[5]);
  tokens = std::max(tokens, length);
  const int padded = rounded_up(tokens, kernels::kTokenStep);
  const kernels::Wants codes{true, false}, nothing{false, false};
  const Team team;
  Memory memory;
  NetworkView net;
  net.hidden = hidden;
  net.head_dim = hidden / heads;
  LayerView layer;
  layer.heads = heads;
  layer.halves = KERNELS.half_attention;
  const Product query(hidden, hidden), key(hidden, hidden), value(hidden, hidden);
  const Product output(hidden, hidden), up(inner, hidden);
  const Product down(hidden, inner), static_down(hidden, inner, true);
  layer.query = query.view(), layer.key = key.view(), layer.value = value.view();

  std::vector<std::int32_t> starts{0};
  while (starts.back() < tokens) starts.push_back(std::min(starts.back() + length, tokens));
  Chunk chunk;
  chunk.rows = static_cast<int>(starts.size()) - 1;
  chunk.starts = starts.data();

  const std::size_t wide = static_cast<std::size_t>(tokens + kRowStep) * hidden;
  Workspace work;
  memory.make_room(inner);
  work.head_stride = hidden;
  work.state = memory.state(hidden);
  work.context = memory.state(hidden);
  work.inner = memory.state(inner);
  work.sum = memory.values(wide);
  work.query = memory.values(wide);
  work.key = memory.values(wide);
  work.value = memory.values(wide);
  work.keys = memory.values(static_cast<std::size_t>(padded) * net.head_dim);
  work.asked = memory.values(static_cast<std::size_t>(heads) * kRowStep * hidden);
  work.answers = memory.values(static_cast<std::size_t>(heads) * kRowStep * hidden);
  work.scores = memory.values(static_cast<std::size_t>(padded) * kRowStep);
  const float* gamma = memory.values(hidden);
  const NormView norm{gamma, gamma};
  kernels::prepare_rows(work.state, hidden, tokens, codes, team);

  const double square = 2.0 * tokens * hidden * hidden;
  const double wide_product = 2.0 * tokens * hidden * inner;
  report("query_key_value", 3 * square, [&] {
    const kernels::Input in = kernels::input_of(layer.query, work.state, tokens);
    const auto multiply_all = [&](auto* query_to, auto* key_to, auto* value_to) {
      kernels::multiply(layer.query, in, team, kernels::out_as(query_to, hidden));
      kernels::multiply(layer.key, in, team, kernels::out_as(key_to, hidden));
      kernels::multiply(layer.value, in, team, kernels::out_as(value_to, hidden));
    };
    if (layer.halves)
      multiply_all(static_cast<std::uint16_t*>(work.query), static_cast<std::uint16_t*>(work.key),
                   static_cast<std::uint16_t*>(work.value));
    else
      multiply_all(static_cast<float*>(work.query), static_cast<float*>(work.key),
                   static_cast<float*>(work.value));
  });
  const double scores = 4.0 * hidden * tokens * length;
  report("attention", scores, [&] {
    if (layer.halves)
      kernels::attention<std::uint16_t>(net, layer, chunk, work, team);
    else
      kernels::attention<float>(net, layer, chunk, work, team);
  });
  const PackedStates packed(key.plain, value.plain, {net.head_dim, net.head_dim}, hidden,
                            layer.halves);
  layer.states = packed.view();
  const double asked = 4.0 * chunk.rows * hidden * hidden + 4.0 * tokens * heads * hidden;
  report("attention_of_first_tokens_to_states", asked, [&] {
    if (layer.halves)
      kernels::attend_states<std::uint16_t>(net, layer, chunk, work, team);
    else
      kernels::attend_states<float>(net, layer, chunk, work, team);
  });
  report("quantize_context", 0, [&] {
    kernels::prepare_rows(work.context, hidden, tokens, codes, team);
  });
  report("output", square, [&] {
    kernels::multiply(output.view(), kernels::input_of(output.view(), work.context, tokens), team,
                      kernels::ToSum{work.sum, work.state.values, hidden});
  });
  report("norm_and_quantize", 0, [&] {
    kernels::normalize_rows(work.sum, work.state, hidden, tokens, norm, 1e-12f, codes, team);
  });
  report("norm_alone", 0, [&] {
    kernels::normalize_rows(work.sum, work.state, hidden, tokens, norm, 1e-12f, nothing, team);
  });
  const kernels::Input in = kernels::input_of(up.view(), work.state, tokens);
  report("up_without_gelu", wide_product, [&] {
    kernels::multiply(up.view(), in, team, kernels::ToFloats{work.inner.values, inner});
  });
  report("up_gelu", wide_product, [&] {
    kernels::multiply(up.view(), in, team,
                      kernels::ToActivated<kernels::gelu>{work.inner.values, inner});
  });
  report("up_gelu_to_codes", wide_product, [&] {
    kernels::multiply(up.view(), in, team,
                      kernels::ToCodes<kernels::gelu>{work.inner.codes, inner, 40.0f, 8.0f});
  });
  report("quantize_inner", 0, [&] {
    kernels::prepare_rows(work.inner, inner, tokens, codes, team);
  });
  report("down", wide_product, [&] {
    kernels::multiply(down.view(), kernels::input_of(down.view(), work.inner, tokens), team,
                      kernels::ToSum{work.sum, work.state.values, hidden});
  });
  report("down_calibrated", wide_product, [&] {
    kernels::multiply(static_down.view(),
                      kernels::input_of(static_down.view(), work.inner, tokens), team,
                      kernels::ToSum{work.sum, work.state.values, hidden});
  });
}
