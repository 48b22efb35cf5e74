#pragma once

#include <array>
#include <atomic>
#include <cstdint>

#include "cairn/tensor.h"
#include "src/base/histogram.h"

namespace cairn {

// What the store counts as it works. Relaxed: each figure is true by itself.
struct StatsRecorder {
  using Counter = std::atomic<uint64_t>;

  Counter puts = 0;
  Counter puts_kept_existing = 0;
  Counter puts_refused = 0;
  Counter gets = 0;
  Counter misses = 0;
  Counter erases = 0;
  Counter expirations = 0;
  // Of each TensorClass.
  std::array<Counter, kTensorClasses> hits_l1 = {};
  std::array<Counter, kTensorClasses> hits_l2 = {};
  std::array<Counter, kTensorClasses> hits_l3 = {};
  Counter evictions_l1 = 0;  // Of L2 and L3: Directory::l2_counts, l3_counts.
  Counter bytes_read_l1 = 0;
  Counter bytes_read_l2 = 0;
  Counter bytes_read_l3 = 0;
  Counter bytes_written_l1 = 0;
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
  Counter prefetches_refused = 0;  // Of those: memory was short.
  Counter checksum_failures = 0;
  Counter read_errors = 0;
  Counter write_errors = 0;
  Counter write_retries = 0;

  Histogram get_l1_us;
  Histogram get_l2_us;
  Histogram get_l3_us;
  Histogram put_us;

  static void Add(Counter& counter, uint64_t amount = 1) {
    counter.fetch_add(amount, std::memory_order_relaxed);
  }
};

}  // namespace cairn
