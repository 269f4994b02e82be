// Memory that starts on a cache line and holds zeros.
#pragma once

#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <new>

namespace miaotui {

constexpr std::size_t kCacheLine = 64;

struct Free {
  void operator()(void* memory) const { std::free(memory); }
};

template <class T>
using Aligned = std::unique_ptr<T[], Free>;

template <class T>
Aligned<T> aligned_zeros(std::size_t count) {
  const std::size_t bytes = (count * sizeof(T) + kCacheLine) / kCacheLine * kCacheLine;
  void* memory = std::aligned_alloc(kCacheLine, bytes);
  if (memory == nullptr) throw std::bad_alloc();
  std::memset(memory, 0, bytes);
  return Aligned<T>(static_cast<T*>(memory));
}

}  // namespace miaotui
