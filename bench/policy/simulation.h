#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include "bench/policy/workload.h"
#include "cairn/options.h"

namespace cairn::policy {

// What a cache did with a workload.
struct Outcome {
  uint64_t hits = 0;    // Blocks present before which none of their request was missing.
  double hit_cost = 0;  // What the hits took to compute (Workload::costs), in ns a byte.
  uint64_t writes = 0;  // Blocks that came into the cache; of two tiers, into L3.
  double seconds = 0;   // CPU time of all bookkeeping, the median of some runs. 0: not measured.
};

// A tier of `blocks_max` equal blocks under the store's own policy, asked as the store is: a
// request names all of its blocks, uses those that it hits, and puts the others from the first on.
// Before each of the requests `restarts`, in rising order, the policy is taken down as the store
// does when it is closed, and a new one goes on with what was kept of it. It is told the blocks'
// costs, where they have any, or not.
struct OneTier {
  uint64_t blocks_max = 0;
  std::vector<size_t> restarts = {};
  bool tell_costs = true;
};
Outcome Simulate(const Workload& workload, EvictionKind kind, const OneTier& tier);

// Two tiers, and what may be written to the lower one.
struct Tiers {
  uint64_t l2_blocks_max = 0;
  uint64_t l3_blocks_max = 0;
  uint64_t block_bytes = 1;
  // By the trace's clock. None: all that is put is written to L3.
  std::optional<uint64_t> write_bytes_per_day;
};

// The same over L2 and L3, each under the policy, with the store's own admission to L3: a block
// that is refused is in L2 alone, and gone when it leaves it. The budget begins with nothing in
// hand and holds a twentieth of what it grants over the whole workload, so that what is written
// stays within a tenth of that.
Outcome SimulateTiers(const Workload& workload, EvictionKind kind, const Tiers& tiers);

// The bound: evicts, or does not even take, what is used again last.
Outcome SimulateBelady(const Workload& workload, uint64_t blocks_max);

}  // namespace cairn::policy
