// What a body throws reaches the caller, from whichever thread, and the threads go on to serve.
#include "../pool.hpp"

#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <new>
#include <string>

using namespace miaotui;

namespace {

void expect(bool holds, const std::string& what) {
  if (holds) return;
  std::printf("failed: %s\n", what.c_str());
  std::exit(1);
}

// Whether a body that runs out of memory on this member says so to the caller.
bool throws_from(Pool& pool, int thrower) {
  try {
    pool.run(3, [&](int member, int) {
      if (thrower < 0 || member == thrower) throw std::bad_alloc();
    });
  } catch (const std::bad_alloc&) {
    return true;
  }
  return false;
}

}  // namespace

int main() {
  Pool pool;
  for (int round = 0; round < 50; ++round) {
    for (const int thrower : {0, 1, 2, -1})
      expect(throws_from(pool, thrower), "member " + std::to_string(thrower) + " threw in silence");
    expect(!throws_from(pool, 3), "an exception of an earlier run was thrown again");
    std::atomic<int> members{0};
    pool.run(3, [&](int, int) { ++members; });
    expect(members == 3, "threads are lost after an exception");
  }
  std::printf("50 rounds of exceptions passed\n");
}
