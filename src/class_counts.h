#pragma once

#include <array>
#include <atomic>
#include <cstdint>

#include "cairn/tensor.h"

namespace cairn {

// What each class of tensors has in a tier, and how many had to leave it. Relaxed sums.
class ClassCounts {
 public:
  void Add(TensorClass tensor_class, uint64_t bytes) {
    Count& count = Of(tensor_class);
    count.tensors.fetch_add(1, std::memory_order_relaxed);
    count.bytes.fetch_add(bytes, std::memory_order_relaxed);
  }
  void Remove(TensorClass tensor_class, uint64_t bytes) {
    Count& count = Of(tensor_class);
    count.tensors.fetch_sub(1, std::memory_order_relaxed);
    count.bytes.fetch_sub(bytes, std::memory_order_relaxed);
  }
  void Evicted(TensorClass tensor_class) {
    Of(tensor_class).evictions.fetch_add(1, std::memory_order_relaxed);
  }

  uint64_t tensors(TensorClass tensor_class) const { return Read(Of(tensor_class).tensors); }
  uint64_t bytes(TensorClass tensor_class) const { return Read(Of(tensor_class).bytes); }
  uint64_t evictions(TensorClass tensor_class) const { return Read(Of(tensor_class).evictions); }
  std::array<uint64_t, kTensorClasses> all_bytes() const {
    std::array<uint64_t, kTensorClasses> all = {};
    for (size_t i = 0; i < kTensorClasses; ++i) all[i] = Read(counts_[i].bytes);
    return all;
  }

 private:
  struct Count {
    std::atomic<uint64_t> tensors = 0;
    std::atomic<uint64_t> bytes = 0;
    std::atomic<uint64_t> evictions = 0;
  };
  static uint64_t Read(const std::atomic<uint64_t>& value) {
    return value.load(std::memory_order_relaxed);
  }
  Count& Of(TensorClass tensor_class) { return counts_[static_cast<size_t>(tensor_class)]; }
  const Count& Of(TensorClass tensor_class) const {
    return counts_[static_cast<size_t>(tensor_class)];
  }

  std::array<Count, kTensorClasses> counts_;
};

}  // namespace cairn
