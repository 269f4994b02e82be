// WordPiece on garbage, for the sanitizers: any bytes, any vocabulary, sizes that always fit.
#include <cstdio>
#include <cstdlib>
#include <random>
#include <set>
#include <string>

#include "../wordpiece.hpp"

using namespace miaotui;

namespace {

void expect(bool holds, const char* what) {
  if (holds) return;
  std::fprintf(stderr, "FAILED: %s\n", what);
  std::exit(1);
}

std::mt19937 draw(11);

int below(int limit) { return static_cast<int>(draw() % static_cast<unsigned>(limit)); }

std::string garbage(int longest, int letters) {
  std::string text(below(longest + 1), '\0');
  for (char& byte : text) byte = static_cast<char>(below(4) > 0 ? 'a' + below(letters) : below(256));
  return text;
}

void learn_all(WordPiece& pieces, const Encoded& encoded) {
  const std::set<std::uint32_t> points(encoded.unknown_points.begin(), encoded.unknown_points.end());
  for (const std::uint32_t point : points) {
    std::vector<Piece> learnt;
    for (int i = below(3); i > 0; --i)
      learnt.push_back({static_cast<Role>(below(3)), std::string(1, static_cast<char>('a' + below(3)))});
    pieces.learn(point, below(20) == 0 ? nullptr : &learnt);
  }
}

void test_round(int number) {
  WordPieceSettings settings;
  for (int i = below(40); i > 0; --i) settings.starts.emplace_back(garbage(6, 3), below(1000));
  for (int i = below(40); i > 0; --i) settings.continued.emplace_back(garbage(6, 3), below(1000));
  settings.unknown = 999;
  settings.most_characters = 1 + below(30);
  settings.before.assign(below(3), 1);
  settings.after.assign(below(3), 2);
  settings.between.assign(below(2), 3);
  settings.most_tokens = static_cast<int>(settings.before.size() + settings.between.size() +
                                          settings.after.size()) + below(20);
  const int most = settings.most_tokens;
  if (number % 3 == 0) settings.specials.push_back("ab");
  WordPiece pieces(settings);
  std::vector<std::string> texts, seconds;
  for (int i = below(30); i > 0; --i) {
    texts.push_back(garbage(80, 4));
    seconds.push_back(garbage(80, 4));
  }
  const bool pairs = number % 2 == 0;
  const auto encode = [&] {
    return pairs ? pieces.encode_pairs(texts, seconds) : pieces.encode(texts);
  };
  Encoded encoded = encode();
  while (!encoded.unknown_points.empty()) {
    learn_all(pieces, encoded);
    encoded = encode();
  }
  expect(encoded.types.size() == (pairs ? encoded.ids.size() : 0), "a type for each id of a pair");
  expect(encoded.lengths.size() == texts.size(), "a length for each text");
  std::size_t total = 0;
  for (const std::int64_t length : encoded.lengths) {
    expect(length >= 0 && length <= most, "a length within the limit");
    total += static_cast<std::size_t>(length);
  }
  expect(total == encoded.ids.size(), "lengths and ids fit");
  for (const std::int32_t id : encoded.ids) expect(id >= 0 && id < 1000, "an id of the vocabulary");
}

}  // namespace

int main() {
  for (int number = 0; number < 3000; ++number) test_round(number);
  std::printf("3000 vocabularies passed\n");
}
