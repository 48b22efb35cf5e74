#pragma once

#include <cstdint>
#include <vector>

#include "tools/offload/trace.h"

namespace cairn::policy {

// A trace with its blocks numbered from 0 in the order in which they first come.
struct Workload {
  std::vector<std::vector<uint32_t>> requests;
  std::vector<int64_t> times_ms;      // Of the requests, from the first on, never going back.
  std::vector<bool> ends_in_partial;  // Of the requests: their last block is not full.
  // What a store of kv-offload has for the blocks' keys: so the policies sample as they do there.
  std::vector<uint64_t> key_hashes;
  // Of each block, what it takes to compute it, in ns a byte. Empty: all the same.
  std::vector<double> costs;
  uint64_t accesses = 0;
  uint32_t blocks = 0;

  // With a `cost_spread` the requests are those of four models that share the cache, conversation
  // by conversation: no block of one is another's, and they cost 1 ns a byte to compute, so many,
  // and two in between.
  explicit Workload(const offload::Trace& trace, double cost_spread = 0);

  int64_t span_ms() const { return times_ms.empty() ? 0 : times_ms.back(); }
  double span_days() const { return static_cast<double>(span_ms()) / (24 * 60 * 60 * 1e3); }
  // The share of accesses that a cache without end hits.
  double hit_rate_max() const {
    return 1 - static_cast<double>(blocks) / static_cast<double>(accesses);
  }
};

}  // namespace cairn::policy
