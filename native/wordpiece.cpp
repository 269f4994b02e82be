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
  const auto found = high_.find(point);
  return found == high_.end() ? nullptr : &found->second;
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

// False where a code point is yet to be learnt; texts left over have no ids and the length -1.
bool WordPiece::encode_one(const std::string& text, Encoded& out, Word& word) const {
  const std::size_t before = out.ids.size();
  bool known = true, refused = false;
  for (const std::string& special : settings_.specials)
    refused = refused || text.find(special) != std::string::npos;
  out.ids.insert(out.ids.end(), settings_.before.begin(), settings_.before.end());
  for (std::size_t at = 0; at < text.size() && !refused;) {
    const auto [number, size] = point_at(text, at);
    at += size;
    const Point* point = look_up(number);
    if (point == nullptr) {
      out.unknown_points.push_back(number);
      known = false;
      continue;
    }
    refused = point->refused;
    for (const Piece& piece : point->pieces) {
      if (piece.role != Role::character) finish(word, out.ids);
      if (piece.role == Role::space) continue;
      word.text += piece.text;
      ++word.characters;
      if (piece.role == Role::word) finish(word, out.ids);
    }
  }
  finish(word, out.ids);
  if (refused || !known) {
    out.ids.resize(before);
    return known;
  }
  const std::size_t most = settings_.most_tokens - settings_.after.size();
  const bool cut = out.ids.size() - before > most;
  if (cut) out.ids.resize(before + most);
  out.ids.insert(out.ids.end(), settings_.after.begin(), settings_.after.end());
  out.lengths.push_back(static_cast<std::int64_t>(out.ids.size() - before));
  out.truncated.push_back(cut);
  return true;
}

Encoded WordPiece::encode(const std::vector<std::string>& texts) const {
  Encoded out;
  Word word;
  for (std::size_t i = 0; i < texts.size(); ++i) {
    const std::size_t done = out.lengths.size();
    if (encode_one(texts[i], out, word) && out.lengths.size() == done) {
      out.lengths.push_back(0);
      out.truncated.push_back(0);
      out.left_over.push_back(static_cast<std::int64_t>(i));
    }
  }
  return out;
}

}  // namespace miaotui
