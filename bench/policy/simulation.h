#pragma once

#include <cstdint>

#include "bench/policy/workload.h"
#include "cairn/options.h"

namespace cairn::policy {

// What a cache did with a workload.
struct Outcome {
  uint64_t hits = 0;    // Blocks present before which none of their request was missing.
  uint64_t writes = 0;  // Blocks that came into the cache.
  double seconds = 0;   // CPU time of all bookkeeping, the median of some runs. 0: not measured.
};

// A tier of `blocks_max` equal blocks under the store's own policy, asked as the store is: a
// request names all of its blocks, uses those that it hits, and puts the others from the first on.
Outcome Simulate(const Workload& workload, EvictionKind kind, uint64_t blocks_max);

// The bound: evicts, or does not even take, what is used again last.
Outcome SimulateBelady(const Workload& workload, uint64_t blocks_max);

}  // namespace cairn::policy
