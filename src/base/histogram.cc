#include "src/base/histogram.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <numeric>

namespace cairn {
namespace {

uint64_t UpperEdge(uint32_t bucket) {
  if (bucket < Histogram::kSubCount) return bucket;
  const uint32_t exponent = bucket / Histogram::kSubCount - 1;
  const uint64_t sub = bucket % Histogram::kSubCount + Histogram::kSubCount;
  return ((sub + 1) << exponent) - 1;
}

// Of `count` values, so many in each bucket.
LatencySummary SummaryOf(const uint64_t* counts, uint64_t count, uint64_t max) {
  if (count == 0) return {};
  // Goes on from where the last one was found.
  uint32_t bucket = 0;
  uint64_t seen = counts[0];
  const auto next_quantile = [&](double share) {
    const double rank = std::ceil(share * static_cast<double>(count));
    const uint64_t wanted = std::clamp<uint64_t>(static_cast<uint64_t>(rank), 1, count);
    while (seen < wanted) seen += counts[++bucket];
    return std::min(UpperEdge(bucket), max);
  };
  const uint64_t p50_us = next_quantile(0.50);
  const uint64_t p99_us = next_quantile(0.99);
  return {.count = count, .p50_us = p50_us, .p99_us = p99_us, .max_us = max};
}

}  // namespace

uint32_t Histogram::BucketOf(uint64_t value) {
  if (value < kSubCount) return static_cast<uint32_t>(value);
  const uint32_t exponent = static_cast<uint32_t>(std::bit_width(value)) - 1 - kSubBits;
  const uint32_t sub = static_cast<uint32_t>(value >> exponent) - kSubCount;
  return (exponent + 1) * kSubCount + sub;
}

void Histogram::Record(uint64_t value) {
  // First, as a summary looks at no bucket past it.
  uint64_t seen = max_.load(std::memory_order_relaxed);
  while (value > seen && !max_.compare_exchange_weak(seen, value, std::memory_order_relaxed)) {
  }
  counts_[BucketOf(value)].fetch_add(1, std::memory_order_relaxed);
}

LatencySummary Histogram::Summary() const {
  const uint64_t max = max_.load(std::memory_order_relaxed);
  const uint32_t buckets = BucketOf(max) + 1;
  std::array<uint64_t, kBucketCount> counts;
  uint64_t count = 0;
  for (uint32_t i = 0; i < buckets; ++i) {
    counts[i] = counts_[i].load(std::memory_order_relaxed);
    count += counts[i];
  }
  return SummaryOf(counts.data(), count, max);
}

LatencySummary Summarize(const uint64_t* counts, uint32_t buckets, uint64_t max) {
  return SummaryOf(counts, std::accumulate(counts, counts + buckets, uint64_t{0}), max);
}

}  // namespace cairn
