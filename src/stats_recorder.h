#pragma once

#include <array>
#include <atomic>
#include <cstdint>

#include "absl/status/status.h"
#include "cairn/stats.h"
#include "cairn/tensor.h"
#include "src/base/histogram.h"

namespace cairn {

// What is counted of L1 on one GPU: all of them together are L1's.
struct L1Recorder {
  std::array<std::atomic<uint64_t>, kTensorClasses> hits = {};  // Of each TensorClass.
  std::atomic<uint64_t> bytes_read = 0;
  std::atomic<uint64_t> bytes_written = 0;
  std::atomic<uint64_t> tensors = 0;  // There now.
  std::atomic<uint64_t> evictions = 0;

  void Read(TierStats& tier) const;
};

// What the store counts as it works. Nothing that is a sum of others is counted: a snapshot adds
// its parts up. Where one figure counts some of another's ("of those"), who counts adds to the
// whole first and who reads looks at the part first, so that no snapshot has more of the part.
struct StatsRecorder {
  using Counter = std::atomic<uint64_t>;

  Counter puts = 0;
  Counter puts_kept_existing = 0;
  Counter puts_refused = 0;
  Counter misses = 0;
  Counter gets_failed = 0;
  Counter erases = 0;
  Counter expirations = 0;
  // Of each TensorClass.
  std::array<Counter, kTensorClasses> hits_l2 = {};
  std::array<Counter, kTensorClasses> hits_l3 = {};
  Counter bytes_read_l2 = 0;
  Counter bytes_read_l3 = 0;
  Counter bytes_written_l2 = 0;
  Counter bytes_written_l3 = 0;
  Counter fills = 0;
  Counter fills_joined = 0;
  Counter lifts = 0;
  Counter lift_failures = 0;
  Counter spills = 0;
  Counter spill_failures = 0;
  Counter prefetches = 0;
  Counter prefetches_dropped = 0;
  Counter predictions = 0;
  Counter prefetches_refused = 0;  // Of those dropped: memory was short.
  Counter checksum_failures = 0;
  Counter read_errors = 0;
  Counter write_errors = 0;
  Counter write_retries = 0;

  Histogram get_l1_us;
  Histogram get_l2_us;
  Histogram get_l3_us;
  Histogram put_us;

  // With the acquire in Read: who sees a part sees the whole that was counted before it.
  static void Add(Counter& counter, uint64_t amount = 1) {
    counter.fetch_add(amount, std::memory_order_release);
  }

  // A Get has its answer: one of these, once.
  void CountHitInL1(L1Recorder& l1, TensorClass tensor_class, uint64_t bytes, uint64_t us);
  void CountHit(Level found_below_l1, TensorClass tensor_class, uint64_t bytes, uint64_t us);
  void CountUnserved(const absl::Status& why);

  // All counters, and what they add up to, with L1's, which are there already.
  void ReadCounters(StatsSnapshot& snapshot) const;
  void ReadLatencies(StatsSnapshot& snapshot) const;
};

}  // namespace cairn
