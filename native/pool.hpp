// Threads that wait for work. One caller at a time has them; another goes on alone.
#pragma once

#include <atomic>
#include <condition_variable>
#include <exception>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

namespace miaotui {

class Pool {
 public:
  Pool() = default;
  ~Pool();
  Pool(const Pool&) = delete;
  Pool& operator=(const Pool&) = delete;

  // Runs body(member, members) on up to `threads` threads, the caller's among them. Where another
  // caller has the threads, or the process was forked since they were made, it is the caller alone.
  // What a body throws on any of them is thrown here once all are done, the first where there are more.
  void run(int threads, const std::function<void(int, int)>& body);

 private:
  void grow(int workers);
  void work(int worker);
  void run_body(const std::function<void(int, int)>& body, int member, int members);

  std::mutex in_use_;
  std::mutex lock_;
  std::condition_variable wake_;
  std::vector<std::thread> workers_;
  std::atomic<unsigned> round_{0};
  std::atomic<int> unfinished_{0};
  const std::function<void(int, int)>* body_ = nullptr;
  std::exception_ptr thrown_;
  int members_ = 0;
  bool stop_ = false;
  int process_ = 0;
};

}  // namespace miaotui
