#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <string>
#include <vector>

namespace cairn::offload {

struct Interval {
  using Clock = std::chrono::steady_clock;
  Clock::time_point begin;
  Clock::time_point end;
};

// Seconds in which at least one of the intervals runs.
double UnionSeconds(std::vector<Interval> intervals);

// The nearest-rank percentile, `share` in (0, 1]; 0 of nothing.
uint64_t Percentile(std::vector<uint64_t> values, double share);

// What one worker counted. Not thread-safe: each worker has its own.
struct Tally {
  uint64_t requests = 0;
  uint64_t blocks_looked_up = 0;
  uint64_t hits_l1 = 0;
  uint64_t hits_l2 = 0;
  uint64_t hits_l3 = 0;
  std::array<uint64_t, 4> hits_by_class = {};  // By TensorClass.
  uint64_t tokens_saved = 0;

  // Everything the store gave back, also what a failed load in front of it made useless.
  uint64_t bytes_restored = 0;
  uint64_t bytes_restored_l3_only = 0;  // In windows of nothing but loads from L3.
  uint64_t bytes_compared = 0;
  uint64_t mismatches = 0;
  uint64_t load_failures = 0;
  uint64_t data_losses = 0;  // Of those.

  uint64_t puts = 0;
  uint64_t puts_refused = 0;      // No room.
  uint64_t puts_unavailable = 0;  // The disk refused.
  std::string unavailable;        // The first message of those.

  std::vector<uint64_t> restore_us;  // Of each request that restored something.
  std::vector<Interval> restores;    // One per window of loads.
  std::vector<Interval> restores_l3_only;
  std::vector<Interval> put_waits;

  void Add(const Tally& other);
};

}  // namespace cairn::offload
