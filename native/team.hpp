// Threads that go through one chunk together: each does its share of every step and waits for the
// others at `sync`. A team of one never waits.
#pragma once

#include <atomic>
#include <sched.h>

namespace miaotui {

class Barrier {
 public:
  explicit Barrier(int members) : members_(members) {}

  void wait() {
    const unsigned round = round_.load(std::memory_order_relaxed);
    if (arrived_.fetch_add(1, std::memory_order_acq_rel) + 1 == members_) {
      arrived_.store(0, std::memory_order_relaxed);
      round_.store(round + 1, std::memory_order_release);
      return;
    }
    for (int spins = 0; round_.load(std::memory_order_acquire) == round; ++spins) {
      if (spins > 4000) sched_yield();
    }
  }

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

  void sync() const {
    if (size > 1) barrier->wait();
  }

  // This member's part of 0..count.
  Range share(int count) const {
    return {static_cast<int>(static_cast<long long>(count) * member / size),
            static_cast<int>(static_cast<long long>(count) * (member + 1) / size)};
  }
};

}  // namespace miaotui
