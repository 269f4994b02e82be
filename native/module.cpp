// The network, as Python sees it: plain arrays in, logits out, the GIL released while it runs.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/shared_ptr.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <optional>
#include <stdexcept>

#include "encoder.hpp"
#include "wordpiece.hpp"

namespace nb = nanobind;
using namespace nb::literals;
using namespace miaotui;

namespace {

template <class T, int dims>
using Array = nb::ndarray<const T, nb::ndim<dims>, nb::c_contig, nb::device::cpu>;
using Bias = std::optional<Array<float, 1>>;

// Keeps a copy of what a PlainLinear borrows, until the encoder has packed it.
struct OwnedLinear : PlainLinear {
  std::vector<std::int8_t> owned_codes;
  std::vector<std::uint16_t> owned_halves;
  std::vector<float> owned_scales, owned_values, owned_bias;
};

template <class Any>
auto copied(const Any& array) {
  using T = std::remove_const_t<std::remove_pointer_t<decltype(array.data())>>;
  return std::vector<T>(array.data(), array.data() + array.size());
}

void set_sizes(OwnedLinear& linear, std::size_t outputs, std::size_t inputs, const Bias& bias) {
  if (outputs == 0 || inputs == 0 || outputs > (1u << 16) || inputs > (1u << 16))
    throw std::invalid_argument("a linear has 1 to 65536 rows and columns");
  linear.outputs = static_cast<int>(outputs);
  linear.inputs = static_cast<int>(inputs);
  if (!bias) return;
  if (bias->size() != outputs) throw std::invalid_argument("a linear's bias has another length");
  linear.owned_bias = copied(*bias);
  linear.bias = linear.owned_bias.data();
}

std::shared_ptr<OwnedLinear> fp32_linear(const Array<float, 2>& weights, const Bias& bias) {
  auto linear = std::make_shared<OwnedLinear>();
  set_sizes(*linear, weights.shape(0), weights.shape(1), bias);
  linear->owned_values = copied(weights);
  linear->values = linear->owned_values.data();
  return linear;
}

std::shared_ptr<OwnedLinear> int8_linear(const Array<std::int8_t, 2>& codes,
                                         const Array<float, 1>& scales, const Bias& bias,
                                         float low, float high) {
  auto linear = std::make_shared<OwnedLinear>();
  set_sizes(*linear, codes.shape(0), codes.shape(1), bias);
  if (scales.size() != codes.shape(0))
    throw std::invalid_argument("a linear has another number of scales than outputs");
  linear->format = Format::int8;
  linear->owned_codes = copied(codes);
  linear->codes = linear->owned_codes.data();
  linear->owned_scales = copied(scales);
  linear->scales = linear->owned_scales.data();
  constexpr float most = 1e30f;  // so that a range and its scale are finite too
  if (!(low >= -most && high <= most))
    throw std::invalid_argument("a linear's input range is not finite");
  linear->input_low = low;
  linear->input_high = high;
  return linear;
}

std::shared_ptr<OwnedLinear> bf16_linear(const Array<std::uint16_t, 2>& weights,
                                         const Bias& bias) {
  auto linear = std::make_shared<OwnedLinear>();
  set_sizes(*linear, weights.shape(0), weights.shape(1), bias);
  linear->format = Format::bf16;
  linear->owned_halves = copied(weights);
  linear->halves = linear->owned_halves.data();
  return linear;
}

// An array that owns what a vector held.
template <class T>
auto owning(std::vector<T>&& values) {
  auto* kept = new std::vector<T>(std::move(values));
  nb::capsule owner(kept, [](void* memory) noexcept {
    delete static_cast<std::vector<T>*>(memory);
  });
  return nb::ndarray<nb::numpy, T, nb::ndim<1>>(kept->data(), {kept->size()}, owner);
}

nb::tuple arrays(Encoded&& encoded) {
  return nb::make_tuple(owning(std::move(encoded.ids)), owning(std::move(encoded.types)),
                        owning(std::move(encoded.lengths)), owning(std::move(encoded.truncated)),
                        owning(std::move(encoded.left_over)),
                        owning(std::move(encoded.unknown_points)));
}

using Entries = std::vector<std::pair<std::string, std::int32_t>>;
using SharedLinear = std::shared_ptr<OwnedLinear>;

PlainLinear plain(const SharedLinear& linear) { return linear ? *linear : PlainLinear{}; }

}  // namespace

NB_MODULE(miaotui_native, module) {
  nb::class_<OwnedLinear>(module, "Linear")
      .def_static("fp32", &fp32_linear, "weights"_a, "bias"_a.none() = nb::none())
      .def_static("bf16", &bf16_linear, "weights"_a, "bias"_a.none() = nb::none())
      .def_static("int8", &int8_linear, "codes"_a, "scales"_a, "bias"_a.none() = nb::none(),
                  "low"_a = 0.0f, "high"_a = 0.0f)
      .def("after", [](SharedLinear self, SharedLinear first) {
        self->first = first;
        return self;
      });
  nb::class_<PlainNorm>(module, "Norm")
      .def("__init__", [](PlainNorm* self, const Array<float, 1>& gamma,
                          const Array<float, 1>& beta) {
        new (self) PlainNorm{copied(gamma), copied(beta)};
      });
  nb::enum_<Activation>(module, "Activation")
      .value("gelu", Activation::gelu)
      .value("gelu_tanh", Activation::gelu_tanh)
      .value("relu", Activation::relu);
  nb::enum_<HeadKind>(module, "HeadKind")
      .value("tanh", HeadKind::tanh)
      .value("gelu", HeadKind::gelu)
      .value("relu", HeadKind::relu)
      .value("linear", HeadKind::linear)
      .value("none", HeadKind::none);
  nb::enum_<Readout>(module, "Readout")
      .value("first", Readout::first)
      .value("mean", Readout::mean)
      .value("every", Readout::every);
  nb::class_<Encoder>(module, "Encoder")
      .def(
          "__init__",
          [](Encoder* self, const Array<float, 2>& words, const Array<float, 2>& positions,
             const std::optional<Array<float, 2>>& types, const PlainNorm& norm,
             const SharedLinear& projection, int hidden, int head_dim, int labels,
             int position_offset, float norm_eps, Activation activation, HeadKind head_kind,
             Readout readout, const std::string& isa) {
            const std::size_t width = words.shape(1);
            if (positions.shape(1) != width || (types && types->shape(1) != width))
              throw std::invalid_argument("embedding tables have different widths");
            PlainNetwork plain;
            plain.hidden = hidden;
            plain.head_dim = head_dim;
            plain.labels = labels;
            plain.vocabulary = static_cast<int>(words.shape(0));
            plain.positions = static_cast<int>(positions.shape(0));
            plain.position_offset = position_offset;
            plain.types = types ? static_cast<int>(types->shape(0)) : 0;
            plain.embedding = static_cast<int>(width);
            plain.norm_eps = norm_eps;
            plain.activation = activation;
            plain.head_kind = head_kind;
            plain.readout = readout;
            plain.words = words.data();
            plain.words_owner = std::make_shared<Array<float, 2>>(words);
            plain.position_rows = positions.data();
            plain.type_rows = types ? types->data() : nullptr;
            plain.embedding_norm = norm;
            plain.projection = projection;
            new (self) Encoder(plain, isa);
          },
          nb::kw_only(), "words"_a, "positions"_a, "types"_a.none(), "norm"_a,
          "projection"_a.none(), "hidden"_a, "head_dim"_a, "labels"_a, "position_offset"_a,
          "norm_eps"_a, "activation"_a, "head_kind"_a, "readout"_a, "isa"_a)
      .def(
          "add_layer",
          [](Encoder& self, bool last, int heads, const SharedLinear& query, const SharedLinear& key,
             const SharedLinear& value, const SharedLinear& output,
             const std::vector<float>& output_bias, const PlainNorm& attention_norm, int inner,
             const SharedLinear& up, const SharedLinear& down,
             const std::vector<float>& down_bias, const PlainNorm& ffn_norm) {
            PlainLayer layer;
            layer.last = last;
            layer.heads = heads;
            layer.query = plain(query);
            layer.key = plain(key);
            layer.value = plain(value);
            layer.output = plain(output);
            layer.output_bias = output_bias;
            layer.attention_norm = attention_norm;
            layer.inner = inner;
            layer.up = plain(up);
            layer.down = plain(down);
            layer.down_bias = down_bias;
            layer.ffn_norm = ffn_norm;
            self.add(layer);
          },
          nb::kw_only(), "last"_a, "heads"_a, "query"_a.none() = nb::none(), "key"_a.none() = nb::none(),
          "value"_a.none() = nb::none(), "output"_a.none() = nb::none(),
          "output_bias"_a = std::vector<float>(), "attention_norm"_a, "inner"_a,
          "up"_a.none() = nb::none(), "down"_a.none() = nb::none(),
          "down_bias"_a = std::vector<float>(), "ffn_norm"_a)
      .def(
          "finish",
          [](Encoder& self, const SharedLinear& dense, const SharedLinear& classifier) {
            self.finish(plain(dense), plain(classifier));
          },
          "dense"_a.none() = nb::none(), "classifier"_a.none() = nb::none())
      .def(
          "run",
          [](Encoder& self, const Array<std::int32_t, 1>& ids,
             const Array<std::int64_t, 1>& starts,
             const std::optional<Array<std::int32_t, 1>>& types, int threads,
             nb::ndarray<float, nb::ndim<2>, nb::c_contig, nb::device::cpu> logits) {
            if (starts.size() == 0) throw std::invalid_argument("rows start at 0");
            Rows rows{ids.data(), types ? types->data() : nullptr, starts.data(),
                      static_cast<std::int64_t>(starts.size()) - 1};
            const auto total = static_cast<std::int64_t>(ids.size());
            if (starts.data()[rows.count] != total ||
                (types && static_cast<std::int64_t>(types->size()) != total))
              throw std::invalid_argument("rows and token ids do not fit");
            if (static_cast<std::int64_t>(logits.shape(0)) != self.readouts(rows))
              throw std::invalid_argument("logits need a row for each readout");
            if (logits.shape(1) != self.labels())
              throw std::invalid_argument("logits have another width than the labels");
            nb::gil_scoped_release released;
            self.run(rows, threads, logits.data());
          },
          "ids"_a, "starts"_a, "types"_a.none(), "threads"_a, "logits"_a.noconvert())
      .def_prop_ro("isa", &Encoder::isa);
  nb::class_<WordPiece>(module, "WordPiece")
      .def(
          "__init__",
          [](WordPiece* self, const Entries& starts, const Entries& continued, int unknown,
             int most_characters, const std::vector<std::int32_t>& before,
             const std::vector<std::int32_t>& after, const std::vector<std::int32_t>& between,
             int second_type, const std::vector<std::string>& specials, int most_tokens) {
            if (most_tokens < static_cast<int>(before.size() + between.size() + after.size()))
              throw std::invalid_argument("special tokens alone are more than a text may have");
            new (self) WordPiece({starts, continued, unknown, most_characters, before, after,
                                  between, second_type, specials, most_tokens});
          },
          nb::kw_only(), "starts"_a, "continued"_a, "unknown"_a, "most_characters"_a, "before"_a,
          "after"_a, "between"_a, "second_type"_a, "specials"_a, "most_tokens"_a)
      .def(
          "learn",
          [](WordPiece& self, std::uint32_t point,
             const std::optional<std::vector<std::pair<int, std::string>>>& given) {
            std::vector<Piece> pieces;
            for (const auto& [role, text] : given.value_or(std::vector<std::pair<int, std::string>>())) {
              if (role < 0 || role > static_cast<int>(Role::space))
                throw std::invalid_argument("a role is 0, 1 or 2");
              pieces.push_back({static_cast<Role>(role), text});
            }
            self.learn(point, given ? &pieces : nullptr);
          },
          "point"_a, "pieces"_a.none())
      .def(
          "encode",
          [](const WordPiece& self, const std::vector<std::string>& texts) {
            return arrays(self.encode(texts));
          },
          "texts"_a)
      .def(
          "encode_pairs",
          [](const WordPiece& self, const std::vector<std::string>& firsts,
             const std::vector<std::string>& seconds) {
            if (firsts.size() != seconds.size())
              throw std::invalid_argument("a pair lacks one of its texts");
            return arrays(self.encode_pairs(firsts, seconds));
          },
          "firsts"_a, "seconds"_a);
  module.def("kernels_here", &kernels_here);
}
