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
  static constexpr uint32_t kSubBits = 5;
  static constexpr uint32_t kSubCount = 1u << kSubBits;
  static constexpr uint32_t kBucketCount = (64 - kSubBits + 1) * kSubCount;
  static uint32_t BucketOf(uint64_t value);

  void Record(uint64_t value);

  // Of one reading of the buckets: the count is that of the values which the quantiles are of.
  // These are upper edges of buckets. Takes as long as the longest value has buckets below it.
  LatencySummary Summary() const;

 private:
  // Relaxed: each is a count by itself.
  std::array<std::atomic<uint64_t>, kBucketCount> counts_ = {};
  std::atomic<uint64_t> max_ = 0;
};

// The summary of values of which so many are in each bucket, none in those that are left out.
LatencySummary Summarize(const uint64_t* counts, uint32_t buckets, uint64_t max);

}  // namespace cairn
