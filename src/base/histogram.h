#pragma once

#include <array>
#include <atomic>
#include <cstdint>

#include "cairn/stats.h"

namespace cairn {

// Counts of values in buckets 1/32 of a power of two wide (an error of at most 3.2 %), for
// latencies in microseconds. Record is wait-free and may be called from any thread.
class Histogram {
 public:
  void Record(uint64_t value);

  // The upper edge of the bucket that holds the quantile; 0 when empty.
  uint64_t Quantile(double quantile) const;
  LatencySummary Summary() const;

 private:
  static constexpr uint32_t kSubBits = 5;
  static constexpr uint32_t kSubCount = 1u << kSubBits;
  static constexpr uint32_t kBucketCount = (64 - kSubBits + 1) * kSubCount;
  static uint32_t BucketOf(uint64_t value);
  static uint64_t UpperEdge(uint32_t bucket);

  // Relaxed: each is a count by itself.
  std::array<std::atomic<uint64_t>, kBucketCount> counts_ = {};
  std::atomic<uint64_t> count_ = 0;
  std::atomic<uint64_t> max_ = 0;
};

}  // namespace cairn
