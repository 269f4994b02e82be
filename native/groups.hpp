// The order of an int8 panel for processors whose byte products saturate (AVX2 without VNNI).
//
// `maddubs` adds two products of u8 and s8 in 16 bits. That is exact while the positive weights of
// both sum up to no more than 128, and the negative ones: 255 * 128 fits. Which weights of a panel
// obey this is known when it is packed, so its groups of four codes are sorted:
//
//   four products   pairs of groups whose sums may even be added in 16 bits
//   two products    groups whose pairs do not saturate
//   the others      for products of 16 bits; within a vector k 0-1 of its columns, then k 2-3
//
// The sums are those of any other order.
#pragma once

#include "network.hpp"

namespace miaotui {

// Sorts a panel [groups][columns][4] in its place; `order` becomes where in a row each group starts.
GroupCounts sort_groups(std::int8_t* panel, int columns, int groups, std::int32_t* order);

}  // namespace miaotui
