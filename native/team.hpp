// Threads that go through one chunk together: each does its share of every step and waits for the
// others at `sync`. A team of one never waits.
#pragma once

#include <atomic>

#include "network.hpp"

namespace miaotui {

class Barrier {
 public:
  explicit Barrier(int members) : members_(members) {}

  void wait();

 private:
  const int members_;
  std::atomic<int> arrived_{0};
  std::atomic<unsigned> round_{0};
};

struct Range {
  int begin, end;
};

struct Team {
  int member = 0;
  int size = 1;
  Barrier* barrier = nullptr;

  MIAOTUI_INLINE void sync() const {
    if (size > 1) barrier->wait();
  }

  // This member's part of 0..count.
  MIAOTUI_INLINE Range share(int count) const {
    return {static_cast<int>(static_cast<long long>(count) * member / size),
            static_cast<int>(static_cast<long long>(count) * (member + 1) / size)};
  }
};

}  // namespace miaotui
