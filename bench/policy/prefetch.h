#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "bench/policy/workload.h"

namespace cairn::policy {

// What the store's prediction does where no host says what it will ask for.
struct PrefetchOutcome {
  size_t ahead = 0;            // How many blocks a reader is followed by.
  uint64_t reads = 0;          // Of blocks that are stored.
  uint64_t reads_from_l2 = 0;  // Of those: there, and not by a prefetch for this request.
  uint64_t issued = 0;         // Prefetches: guessed, and on L3 alone.
  uint64_t used = 0;           // Of those: asked for by the request for which they were made.
  uint64_t demand_misses = 0;  // Reads of what L3 alone had.
  double ns_per_read = 0;      // CPU time of learning and guessing.
  uint64_t memory_bytes = 0;

  double accuracy() const;  // used / issued
  double coverage() const;  // used / (used + demand_misses)
};

// Each request's blocks are read one by one, from the first on, up to the first that was never
// stored; that and those behind it are put. L3 has all that was ever put, L2 `l2_blocks_max` of
// them under the store's default policy; 0: a request begins with nothing in L2.
PrefetchOutcome SimulatePrefetch(const Workload& workload, uint64_t l2_blocks_max, size_t ahead);

std::string PrefetchTable(const Workload& workload, uint64_t l2_blocks,
                          const std::vector<PrefetchOutcome>& outcomes);
std::string PrefetchJson(const std::string& source, const Workload& workload, uint64_t l2_blocks,
                         const std::vector<PrefetchOutcome>& outcomes);

}  // namespace cairn::policy
