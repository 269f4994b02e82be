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
  std::vector<std::int32_t> before, after;  // special tokens around a text
  std::vector<std::string> specials;        // a text that holds one of these is left to the caller
  int most_tokens = 512;                    // with the special ones
};

struct Encoded {
  std::vector<std::int32_t> ids;
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

 private:
  struct Point {
    bool refused = false;
    std::vector<Piece> pieces;
  };
  struct Word;

  const Point* look_up(std::uint32_t point) const;
  bool encode_one(const std::string& text, Encoded& out, Word& word) const;
  void finish(Word& word, std::vector<std::int32_t>& ids) const;

  WordPieceSettings settings_;
  Vocabulary starts_, continued_;
  std::vector<Point> low_;  // code points below 128, which most are
  std::vector<bool> low_known_;
  std::unordered_map<std::uint32_t, Point> high_;
};

}  // namespace miaotui
