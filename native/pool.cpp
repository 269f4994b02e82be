#include "pool.hpp"

#include <sched.h>
#include <unistd.h>

#include <utility>

namespace miaotui {
namespace {

constexpr int kSpins = 4000;  // some tens of microseconds: the time between two single rows

void rest() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#else
  sched_yield();
#endif
}

}  // namespace

Pool::~Pool() {
  if (process_ != getpid()) {
    for (std::thread& worker : workers_) worker.detach();  // they stayed in the parent
    return;
  }
  {
    std::lock_guard<std::mutex> guard(lock_);
    stop_ = true;
    round_.fetch_add(1, std::memory_order_release);
  }
  wake_.notify_all();
  for (std::thread& worker : workers_) worker.join();
}

void Pool::run(int threads, const std::function<void(int, int)>& body) {
  std::unique_lock<std::mutex> mine(in_use_, std::defer_lock);
  const bool alone = threads <= 1 || !mine.try_lock() ||
                     (!workers_.empty() && process_ != getpid());
  if (alone) {
    body(0, 1);
    return;
  }
  grow(threads - 1);
  {
    std::lock_guard<std::mutex> guard(lock_);
    body_ = &body;
    members_ = threads;
    unfinished_.store(threads - 1, std::memory_order_relaxed);
    round_.fetch_add(1, std::memory_order_release);
  }
  wake_.notify_all();
  run_body(body, 0, threads);
  for (int spins = 0; unfinished_.load(std::memory_order_acquire) > 0; ++spins) {
    if (spins < kSpins)
      rest();
    else
      sched_yield();
  }
  if (thrown_) std::rethrow_exception(std::exchange(thrown_, nullptr));
}

void Pool::run_body(const std::function<void(int, int)>& body, int member, int members) {
  try {
    body(member, members);
  } catch (...) {
    std::lock_guard<std::mutex> guard(lock_);
    if (!thrown_) thrown_ = std::current_exception();
  }
}

void Pool::grow(int workers) {
  process_ = getpid();
  while (static_cast<int>(workers_.size()) < workers) {
    const int worker = static_cast<int>(workers_.size());
    workers_.emplace_back([this, worker] { work(worker); });
  }
}

void Pool::work(int worker) {
  unsigned seen = 0;
  while (true) {
    for (int spins = 0; spins < kSpins && round_.load(std::memory_order_acquire) == seen; ++spins)
      rest();
    const std::function<void(int, int)>* body = nullptr;
    int members = 0;
    {
      std::unique_lock<std::mutex> guard(lock_);
      wake_.wait(guard, [&] { return round_.load(std::memory_order_relaxed) != seen; });
      seen = round_.load(std::memory_order_relaxed);
      if (stop_) return;
      body = body_;
      members = members_;
    }
    if (worker + 1 >= members) continue;
    run_body(*body, worker + 1, members);
    unfinished_.fetch_sub(1, std::memory_order_release);
  }
}

}  // namespace miaotui
