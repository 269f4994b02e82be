#include "wordpiece.hpp"

#include <algorithm>

namespace miaotui {
namespace {

constexpr std::uint32_t kLow = 128;

std::uint64_t hash_of(std::string_view text) {  // FNV-1a
  std::uint64_t hash = 14695981039346656037ull;
  for (const char byte : text) hash = (hash ^ static_cast<unsigned char>(byte)) * 1099511628211ull;
  return hash ^ (hash >> 32);
}

// The code point that starts at `at`, and how many bytes it has; the text is valid UTF-8, and what
// is not reads as single bytes beyond Unicode, which nothing can have taught.
std::pair<std::uint32_t, int> point_at(const std::string& text, std::size_t at) {
  const auto byte = [&](std::size_t i) -> std::uint32_t {
    return at + i < text.size() ? static_cast<unsigned char>(text[at + i]) : 0u;
  };
  const std::uint32_t lead = byte(0);
  if (lead < 0x80) return {lead, 1};
  const int size = lead >= 0xf0 ? 4 : lead >= 0xe0 ? 3 : 2;
  std::uint32_t point = lead & (0x7fu >> size);
  for (int i = 1; i < size; ++i) {
    if ((byte(i) & 0xc0u) != 0x80u) return {0x110000u + lead, 1};
    point = point << 6 | (byte(i) & 0x3fu);
  }
  return {point, size};
}

bool is_start(char byte) { return (static_cast<unsigned char>(byte) & 0xc0u) != 0x80u; }

}  // namespace

Vocabulary::Vocabulary(const std::vector<std::pair<std::string, std::int32_t>>& entries) {
  std::size_t size = 16;
  while (size < entries.size() * 2) size *= 2;
  slots_.resize(size);
  for (const auto& [text, id] : entries) {
    if (find(text) >= 0) continue;
    std::size_t at = first_slot(text);
    while (slots_[at].id >= 0) at = (at + 1) & (slots_.size() - 1);
    slots_[at] = {static_cast<std::uint32_t>(bytes_.size()),
                  static_cast<std::uint32_t>(text.size()), id};
    bytes_ += text;
    longest_ = std::max(longest_, text.size());
  }
}

std::size_t Vocabulary::first_slot(std::string_view text) const {
  return hash_of(text) & (slots_.size() - 1);
}

std::int32_t Vocabulary::find(std::string_view text) const {
  for (std::size_t at = first_slot(text); slots_[at].id >= 0; at = (at + 1) & (slots_.size() - 1))
    if (std::string_view(bytes_).substr(slots_[at].begin, slots_[at].size) == text)
      return slots_[at].id;
  return -1;
}

// The word that is being read.
struct WordPiece::Word {
  std::string text;
  int characters = 0;
};

WordPiece::WordPiece(WordPieceSettings settings)
    : settings_(std::move(settings)),
      starts_(settings_.starts),
      continued_(settings_.continued),
      low_(kLow),
      low_known_(kLow, false) {
  settings_.starts.clear();
  settings_.continued.clear();
}

void WordPiece::learn(std::uint32_t point, const std::vector<Piece>* pieces) {
  Point learnt;
  learnt.refused = pieces == nullptr;
  if (pieces != nullptr) learnt.pieces = *pieces;
  if (point < kLow) {
    low_[point] = std::move(learnt);
    low_known_[point] = true;
  } else {
    high_[point] = std::move(learnt);
  }
}

const WordPiece::Point* WordPiece::look_up(std::uint32_t point) const {
  if (point < kLow) return low_known_[point] ? &low_[point] : nullptr;
  const auto entry = high_.find(point);
  return entry == high_.end() ? nullptr : &entry->second;
}

// The longest piece first, from the left; a word with a part that no piece has is unknown.
void WordPiece::finish(Word& word, std::vector<std::int32_t>& ids) const {
  if (word.text.empty()) return;
  const std::string_view text = word.text;
  const std::size_t before = ids.size();
  std::size_t begin = word.characters > settings_.most_characters ? text.size() + 1 : 0;
  while (begin < text.size()) {
    const Vocabulary& pieces = begin == 0 ? starts_ : continued_;
    std::size_t end = std::min(text.size(), begin + pieces.longest());
    std::int32_t id = -1;
    for (; end > begin; --end) {
      if (end < text.size() && !is_start(text[end])) continue;
      id = pieces.find(text.substr(begin, end - begin));
      if (id >= 0) break;
    }
    if (id < 0) {
      begin = text.size() + 1;
      break;
    }
    ids.push_back(id);
    begin = end;
  }
  if (begin > text.size()) {
    ids.resize(before);
    ids.push_back(settings_.unknown);
  }
  word.text.clear();
  word.characters = 0;
}

// Adds the ids of a text's words; all of them, or what is there must not be used.
WordPiece::Outcome WordPiece::read(const std::string& text, std::vector<std::int32_t>& ids,
                                   Word& word, std::vector<std::uint32_t>& unknown_points) const {
  for (const std::string& special : settings_.specials)
    if (text.find(special) != std::string::npos) return Outcome::left_over;
  Outcome outcome = Outcome::whole;
  for (std::size_t at = 0; at < text.size();) {
    const auto [number, size] = point_at(text, at);
    at += size;
    const Point* point = look_up(number);
    if (point == nullptr) {
      unknown_points.push_back(number);
      outcome = Outcome::unknown_points;
      continue;
    }
    if (point->refused && outcome == Outcome::whole) outcome = Outcome::left_over;
    for (const Piece& piece : point->pieces) {
      if (piece.role != Role::character) finish(word, ids);
      if (piece.role == Role::space) continue;
      word.text += piece.text;
      ++word.characters;
      if (piece.role == Role::word) finish(word, ids);
    }
  }
  finish(word, ids);
  return outcome;
}

void WordPiece::add_text(const std::vector<std::int32_t>& text, Encoded& out) const {
  const std::size_t begin = out.ids.size();
  const std::size_t room =
      settings_.most_tokens - settings_.before.size() - settings_.after.size();
  const std::size_t kept = std::min(text.size(), room);
  out.ids.insert(out.ids.end(), settings_.before.begin(), settings_.before.end());
  out.ids.insert(out.ids.end(), text.begin(), text.begin() + kept);
  out.ids.insert(out.ids.end(), settings_.after.begin(), settings_.after.end());
  out.lengths.push_back(static_cast<std::int64_t>(out.ids.size() - begin));
  out.truncated.push_back(kept < text.size());
}

void WordPiece::add_pair(const std::vector<std::int32_t>& first,
                         const std::vector<std::int32_t>& second, Encoded& out) const {
  const std::size_t begin = out.ids.size();
  const std::size_t room = settings_.most_tokens - settings_.before.size() -
                           settings_.between.size() - settings_.after.size();
  std::size_t ones = first.size(), others = second.size();
  const bool cut = ones + others > room;
  if (cut && ones <= others) {
    ones = std::min(ones, room / 2);
    others = room - ones;
  } else if (cut) {
    others = std::min(others, room / 2);
    ones = room - others;
  }
  out.ids.insert(out.ids.end(), settings_.before.begin(), settings_.before.end());
  out.ids.insert(out.ids.end(), first.begin(), first.begin() + ones);
  out.ids.insert(out.ids.end(), settings_.between.begin(), settings_.between.end());
  out.types.resize(out.ids.size(), 0);
  out.ids.insert(out.ids.end(), second.begin(), second.begin() + others);
  out.ids.insert(out.ids.end(), settings_.after.begin(), settings_.after.end());
  out.types.resize(out.ids.size(), settings_.second_type);
  out.lengths.push_back(static_cast<std::int64_t>(out.ids.size() - begin));
  out.truncated.push_back(cut);
}

namespace {

// A text that is left over keeps its place, with no ids.
void leave(std::size_t number, Encoded& out) {
  out.lengths.push_back(0);
  out.truncated.push_back(0);
  out.left_over.push_back(static_cast<std::int64_t>(number));
}

}  // namespace

Encoded WordPiece::encode(const std::vector<std::string>& texts) const {
  Encoded out;
  Word word;
  std::vector<std::int32_t> ids;
  for (std::size_t i = 0; i < texts.size(); ++i) {
    ids.clear();
    const Outcome outcome = read(texts[i], ids, word, out.unknown_points);
    if (outcome == Outcome::whole) add_text(ids, out);
    if (outcome == Outcome::left_over) leave(i, out);
  }
  return out;
}

Encoded WordPiece::encode_pairs(const std::vector<std::string>& firsts,
                                const std::vector<std::string>& seconds) const {
  Encoded out;
  Word word;
  std::vector<std::int32_t> first, second;
  for (std::size_t i = 0; i < firsts.size(); ++i) {
    first.clear();
    second.clear();
    const Outcome one = read(firsts[i], first, word, out.unknown_points);
    const Outcome other = read(seconds[i], second, word, out.unknown_points);
    if (one == Outcome::unknown_points || other == Outcome::unknown_points) continue;
    if (one == Outcome::whole && other == Outcome::whole)
      add_pair(first, second, out);
    else
      leave(i, out);
  }
  return out;
}

}  // namespace miaotui
