// A network that owns its weights, and runs any rows through it on any number of threads.
#pragma once

#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "aligned.hpp"
#include "kernels.hpp"
#include "packing.hpp"
#include "pool.hpp"

namespace miaotui {

struct PlainNorm {
  std::vector<float> gamma, beta;
};

struct PlainLayer {
  bool last = false;
  int heads = 0;
  PlainLinear query, key, value, output;
  std::vector<float> output_bias;  // where there are no heads
  PlainNorm attention_norm;
  int inner = 0;
  PlainLinear up, down;
  std::vector<float> down_bias;  // where there is no inner width
  PlainNorm ffn_norm;
};

// Sizes and choices; tables are [rows][embedding]. That of words is borrowed: it may be a file mapped
// into memory, of which only the rows that occur are ever read. `words_owner` keeps it alive.
struct PlainNetwork {
  int hidden = 0, head_dim = 0, labels = 0;
  int vocabulary = 0, positions = 0, position_offset = 0, types = 0, embedding = 0;
  float norm_eps = 0.0f;
  Activation activation = Activation::gelu;
  HeadKind head_kind = HeadKind::tanh;
  Readout readout = Readout::first;
  const float* words = nullptr;
  std::shared_ptr<const void> words_owner;
  const float* position_rows = nullptr;
  const float* type_rows = nullptr;
  PlainNorm embedding_norm;
  std::shared_ptr<const PlainLinear> projection;
};

// The rows of one call: row r owns ids[starts[r]] to ids[starts[r + 1]].
struct Rows {
  const std::int32_t* ids = nullptr;
  const std::int32_t* types = nullptr;  // null: all zero
  const std::int64_t* starts = nullptr;
  std::int64_t count = 0;
};

// Whole rows to go through the network together, by their numbers, and the tokens of the largest.
struct Chunks {
  std::vector<std::vector<std::int64_t>> rows;
  int most_tokens = 0;
};

// Built layer by layer, then run; every size is checked as it comes (std::invalid_argument).
class Encoder {
 public:
  // `isa` names kernels, or is empty for the best that runs here.
  Encoder(const PlainNetwork& plain, const std::string& isa);
  ~Encoder();

  void add(const PlainLayer& layer);
  // A linear head has no dense part. Without a head (HeadKind::none) neither is looked at, and there
  // are as many labels as hidden.
  void finish(const PlainLinear& dense, const PlainLinear& classifier);

  // Of these rows: a readout each, or one for each of their tokens.
  std::int64_t readouts(const Rows& rows) const {
    return net_.readout == Readout::every ? rows.starts[rows.count] : rows.count;
  }

  // logits: [readouts][labels]. Safe to call from several threads at once.
  void run(const Rows& rows, int threads, float* logits);

  const char* isa() const { return kernels_.name; }
  std::size_t labels() const { return static_cast<std::size_t>(net_.labels); }

 private:
  struct Scratch;

  void check(const Rows& rows) const;
  std::unique_ptr<Scratch> borrow(int tokens, int members);
  void give_back(std::unique_ptr<Scratch> scratch);
  void run_as_team(const Rows& rows, const Chunks& chunks, int threads, float* logits);
  void run_side_by_side(const Rows& rows, const Chunks& chunks, int threads, float* logits);
  static void gather(const Rows& rows, const std::vector<std::int64_t>& chosen, Scratch& scratch);
  void run_chunk(const Rows& rows, const std::vector<std::int64_t>& chosen, Scratch& scratch,
                 const Team& team, float* logits) const noexcept;
  void add_attention(const PlainLayer& plain, LayerView& layer);
  const float* keep(const std::vector<float>& values, int width, const char* name);
  NormView norm(const PlainNorm& plain, int width, const char* name);
  const LinearView& linear(const PlainLinear& plain, int inputs, int outputs, const char* name,
                           Spread spread_out = {}, Spread spread_in = {}, float factor = 1.0f);

  const Kernels& kernels_;
  NetworkView net_;
  int head_dim_ = 0;  // as saved
  int widest_heads_ = 0, widest_inner_ = 0, widest_rank_ = 0;
  int heads_asking_ = 0;  // for states, where the last layer reads out first tokens alone
  bool finished_ = false, has_last_ = false;
  std::vector<std::unique_ptr<PackedLinear>> linears_;
  std::unique_ptr<PackedStates> states_;
  std::vector<Aligned<float>> floats_;
  std::shared_ptr<const void> words_owner_;
  std::vector<LayerView> layers_;
  Pool pool_;
  std::mutex scratches_lock_;
  std::vector<std::unique_ptr<Scratch>> scratches_;
};

const Kernels& kernels_for(const std::string& isa);
std::vector<std::string> kernels_here();

}  // namespace miaotui
