#include "src/base/histogram.h"

#include <algorithm>
#include <bit>
#include <cmath>

namespace cairn {

uint32_t Histogram::BucketOf(uint64_t value) {
  if (value < kSubCount) return static_cast<uint32_t>(value);
  const uint32_t exponent = static_cast<uint32_t>(std::bit_width(value)) - 1 - kSubBits;
  const uint32_t sub = static_cast<uint32_t>(value >> exponent) - kSubCount;
  return (exponent + 1) * kSubCount + sub;
}

uint64_t Histogram::UpperEdge(uint32_t bucket) {
  if (bucket < kSubCount) return bucket;
  const uint32_t exponent = bucket / kSubCount - 1;
  const uint64_t sub = bucket % kSubCount + kSubCount;
  return ((sub + 1) << exponent) - 1;
}

void Histogram::Record(uint64_t value) {
  counts_[BucketOf(value)].fetch_add(1, std::memory_order_relaxed);
  count_.fetch_add(1, std::memory_order_relaxed);
  uint64_t seen = max_.load(std::memory_order_relaxed);
  while (value > seen && !max_.compare_exchange_weak(seen, value, std::memory_order_relaxed)) {
  }
}

uint64_t Histogram::Quantile(double quantile) const {
  uint64_t total = 0;
  for (const auto& count : counts_) total += count.load(std::memory_order_relaxed);
  if (total == 0) return 0;
  const double rank = std::ceil(quantile * static_cast<double>(total));
  const uint64_t wanted = std::clamp<uint64_t>(static_cast<uint64_t>(rank), 1, total);
  uint64_t seen = 0;
  for (uint32_t bucket = 0; bucket < kBucketCount; ++bucket) {
    seen += counts_[bucket].load(std::memory_order_relaxed);
    if (seen >= wanted) return std::min(UpperEdge(bucket), max_.load(std::memory_order_relaxed));
  }
  return max_.load(std::memory_order_relaxed);
}

LatencySummary Histogram::Summary() const {
  return {.count = count_.load(std::memory_order_relaxed),
          .p50_us = Quantile(0.50),
          .p99_us = Quantile(0.99),
          .max_us = max_.load(std::memory_order_relaxed)};
}

}  // namespace cairn
