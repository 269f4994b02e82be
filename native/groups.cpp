#include "groups.hpp"

#include <algorithm>
#include <cstring>
#include <vector>

namespace miaotui {
namespace {

constexpr int kMostSum = 128;   // 255 times this is a 16-bit sum
constexpr int kVectorColumns = 8;
constexpr int kOpenGroups = 32;  // groups that a later one is tried with

// The sums of positive and of negative weights of each column's two pairs.
typedef std::vector<int> Sums;

Sums sums_of(const std::int8_t* group, int columns) {
  Sums sums;
  for (int pair = 0; pair < 2 * columns; ++pair) {
    const int first = group[2 * pair], second = group[2 * pair + 1];
    sums.push_back(std::max(first, 0) + std::max(second, 0));
    sums.push_back(-std::min(first, 0) - std::min(second, 0));
  }
  return sums;
}

bool fits(const Sums& sums) {
  return *std::max_element(sums.begin(), sums.end()) <= kMostSum;
}

bool fit_together(const Sums& a, const Sums& b) {
  for (std::size_t i = 0; i < a.size(); ++i)
    if (a[i] + b[i] > kMostSum) return false;
  return true;
}

// From a vector's columns of four codes to k 0-1 of its columns, then k 2-3.
void split_pairs(std::int8_t* group, int columns) {
  for (int first = 0; first < columns; first += kVectorColumns) {
    std::int8_t* vector = group + first * 4;
    std::int8_t old[kVectorColumns * 4];
    std::memcpy(old, vector, sizeof old);
    for (int column = 0; column < kVectorColumns; ++column)
      for (int half = 0; half < 2; ++half)
        std::memcpy(vector + (half * kVectorColumns + column) * 2, old + column * 4 + half * 2, 2);
  }
}

}  // namespace

GroupCounts sort_groups(std::int8_t* panel, int columns, int groups, std::int32_t* order) {
  const std::size_t size = static_cast<std::size_t>(columns) * 4;
  std::vector<Sums> sums;
  std::vector<int> fours, open, twos, others;
  for (int g = 0; g < groups; ++g) {
    sums.push_back(sums_of(panel + g * size, columns));
    if (!fits(sums[g])) {
      others.push_back(g);
      continue;
    }
    const auto partner = std::find_if(open.begin(), open.end(), [&](int other) {
      return fit_together(sums[g], sums[other]);
    });
    if (partner == open.end()) {
      open.push_back(g);
      if (open.size() > kOpenGroups) {
        twos.push_back(open.front());
        open.erase(open.begin());
      }
      continue;
    }
    fours.insert(fours.end(), {*partner, g});
    open.erase(partner);
  }
  twos.insert(twos.end(), open.begin(), open.end());
  const GroupCounts counts{static_cast<std::int32_t>(fours.size() / 2),
                           static_cast<std::int32_t>(twos.size())};
  std::vector<int> all = fours;
  all.insert(all.end(), twos.begin(), twos.end());
  all.insert(all.end(), others.begin(), others.end());
  const std::vector<std::int8_t> old(panel, panel + groups * size);
  for (int g = 0; g < groups; ++g) {
    std::memcpy(panel + g * size, old.data() + all[g] * size, size);
    order[g] = all[g] * 4;
    if (g >= static_cast<int>(fours.size() + twos.size())) split_pairs(panel + g * size, columns);
  }
  return counts;
}

}  // namespace miaotui
