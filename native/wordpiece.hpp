// WordPiece over words that the caller's own normalizer and pre-tokenizer define.
//
// What a code point becomes (other characters, a word of its own, a space, nothing) is not written
// here: it is learnt from the stock tokenizer, one code point at a time, the first time it is met.
// So the Unicode version and the options are always the stock tokenizer's own.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

namespace miaotui {

// From strings to token ids; open addressing, the strings in one piece of memory.
class Vocabulary {
 public:
  explicit Vocabulary(const std::vector<std::pair<std::string, std::int32_t>>& entries);

  // -1 where it is not there.
  std::int32_t find(std::string_view text) const;
  std::size_t longest() const { return longest_; }

 private:
  struct Slot {
    std::uint32_t begin = 0, size = 0;
    std::int32_t id = -1;
  };

  std::size_t first_slot(std::string_view text) const;

  std::string bytes_;
  std::vector<Slot> slots_;
  std::size_t longest_ = 0;
};

enum class Role : int { character, word, space };

struct Piece {
  Role role;
  std::string text;
};

struct WordPieceSettings {
  std::vector<std::pair<std::string, std::int32_t>> starts;     // pieces that begin a word
  std::vector<std::pair<std::string, std::int32_t>> continued;  // the others, without their prefix
  std::int32_t unknown = 0;
  int most_characters = 100;  // of a word; a longer one is unknown
  std::vector<std::int32_t> before, after;  // special tokens around a text or a pair
  std::vector<std::int32_t> between;        // of a pair
  std::int32_t second_type = 1;             // of what follows it; all else has type 0
  std::vector<std::string> specials;        // a text that holds one of these is left to the caller
  int most_tokens = 512;                    // with the special ones
};

struct Encoded {
  std::vector<std::int32_t> ids;
  std::vector<std::int32_t> types;  // of pairs
  std::vector<std::int64_t> lengths;
  std::vector<std::uint8_t> truncated;
  std::vector<std::int64_t> left_over;       // texts for the caller's own tokenizer; no ids here
  std::vector<std::uint32_t> unknown_points;  // to be learnt before these texts are given again
};

class WordPiece {
 public:
  explicit WordPiece(WordPieceSettings settings);

  // Null pieces: texts with this code point are left to the caller.
  void learn(std::uint32_t point, const std::vector<Piece>* pieces);

  Encoded encode(const std::vector<std::string>& texts) const;

  // Pair i is firsts[i] and seconds[i]. Of one that is too long the longer text is cut, to half of
  // what there is room for at the least.
  Encoded encode_pairs(const std::vector<std::string>& firsts,
                       const std::vector<std::string>& seconds) const;

 private:
  struct Point {
    bool refused = false;
    std::vector<Piece> pieces;
  };
  struct Word;
  enum class Outcome { whole, left_over, unknown_points };

  const Point* look_up(std::uint32_t point) const;
  Outcome read(const std::string& text, std::vector<std::int32_t>& ids, Word& word,
               std::vector<std::uint32_t>& unknown_points) const;
  void finish(Word& word, std::vector<std::int32_t>& ids) const;
  void add_text(const std::vector<std::int32_t>& text, Encoded& out) const;
  void add_pair(const std::vector<std::int32_t>& first, const std::vector<std::int32_t>& second,
                Encoded& out) const;

  WordPieceSettings settings_;
  Vocabulary starts_, continued_;
  std::vector<Point> low_;  // code points below 128, which most are
  std::vector<bool> low_known_;
  std::unordered_map<std::uint32_t, Point> high_;
};

}  // namespace miaotui
