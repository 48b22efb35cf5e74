#pragma once

#include <cstdint>
#include <string>

#include "cairn/export.h"

namespace cairn {

// Microseconds from a histogram with 3 % wide buckets; 0 when nothing was measured.
struct LatencySummary {
  uint64_t count = 0;
  uint64_t p50_us = 0;
  uint64_t p99_us = 0;
  uint64_t max_us = 0;
};

struct TierStats {
  uint64_t bytes_max = 0;   // What tensors may occupy: L3 without the index's share and what is
                            // out of use.
  uint64_t bytes_used = 0;  // Occupied, with padding and record headers.
  uint64_t tensors = 0;
  uint64_t hits = 0;        // Gets and GetIntos served from here.
  uint64_t evictions = 0;   // Tensors that left for room.
  uint64_t bytes_read = 0;  // Tensor bytes.
  uint64_t bytes_written = 0;
};

// What is written to L3 beside what may be (StoreOptions::l3_write_bytes_per_day), from Open on.
// All 0 without a budget.
struct WriteBudgetStats {
  uint64_t bytes_per_day = 0;
  // What was in hand at Open, and what the budget has given since; it gives nothing while it is
  // full. Under demand bytes_written keeps to it.
  uint64_t bytes_granted = 0;
  uint64_t bytes_written = 0;  // Admitted: with record headers and padding.
  int64_t bytes_in_hand = 0;   // Under 0: written ahead of the budget, and to be waited for.
  // Days until the drives have taken five years of one drive write a day, if they are written as
  // since Open. 0: not known yet.
  double drive_life_days = 0;

  uint64_t admitted_promised = 0;      // Tensors: durable, to be kept, flushed.
  uint64_t admitted_second_sight = 0;  // Refused before or evicted from L3, and wanted again.
  uint64_t admitted_first_sight = 0;   // New, and the budget had bytes in hand.
  uint64_t refused_partial = 0;        // PutOptions::partial_block.
  uint64_t refused_first_sight = 0;    // New, and the budget had nothing in hand.
  uint64_t refused_over_budget = 0;    // Wanted again, and too much was written ahead already.
};

// One moment of a store. Counters run from Open; sizes are as of the call. Counters of different
// names are read one after the other: they may differ by what happens meanwhile.
struct CAIRN_EXPORT StatsSnapshot {
  TierStats l1;
  TierStats l2;
  TierStats l3;

  uint64_t puts = 0;
  uint64_t puts_kept_existing = 0;  // IfExists::kKeep found the key.
  uint64_t puts_refused = 0;        // No room before the deadline, or no data file takes writes.
  uint64_t gets = 0;                // Every tensor asked for by any Get verb.
  uint64_t misses = 0;              // Of those: kNotFound.
  uint64_t erases = 0;
  uint64_t expirations = 0;  // TTL.

  uint64_t fills = 0;           // L3 to L2.
  uint64_t lifts = 0;           // L2 to L1.
  uint64_t lift_failures = 0;   // Of those: the device refused.
  uint64_t fills_joined = 0;    // Gets that waited for another's fill.
  uint64_t spills = 0;          // L2 or borrowed memory to L3.
  uint64_t spill_failures = 0;  // Writes to L3 given up; a kCache tensor then lives in L2 only.
  uint64_t dirty_bytes = 0;     // In L2, not yet on L3.
  uint64_t prefetches = 0;      // Taken.
  uint64_t prefetches_dropped = 0;
  uint64_t prefetches_waiting = 0;  // Of WillNeed, not begun.
  uint64_t prefetches_cancelled = 0;
  // Of what prefetches brought to L2: asked for when it was there; while it was on its way; not
  // before it left. (used + late) / all three is their accuracy.
  uint64_t prefetches_used = 0;
  uint64_t prefetches_late = 0;
  uint64_t prefetches_unused = 0;

  uint64_t checksum_failures = 0;  // Reads whose bytes were not what was written, twice.
  uint64_t read_errors = 0;        // Reads the device refused, twice.
  uint64_t write_errors = 0;       // Writes the device refused, each try of a tensor or a pack.
  uint64_t write_retries = 0;      // Of those: tried once more, in another place on L3.
  // Free space of L3 where a write failed: not used until the next Open, so that a bad place of the
  // medium is not given to the next put. At most 1/64 of L3; past that the oldest is used again.
  uint64_t l3_bytes_quarantined = 0;
  // Data files out of use until the next Open because a flush of them failed: nothing more is put
  // there, and nothing that lies there is acknowledged as flushed. `degraded` names them.
  uint64_t data_files_given_up = 0;
  uint64_t quarantined = 0;        // Tensors that answer kDataLoss until they are put again.
  uint64_t recovered_tensors = 0;  // Found on L3 at Open.
  uint64_t recovery_dropped = 0;   // Index entries at Open that could not be true.

  WriteBudgetStats write_budget;
  uint64_t device_bytes_written = 0;  // With record headers and padding, without the index.
  uint64_t io_retries = 0;            // Short, interrupted or busy requests continued.
  uint64_t index_commits = 0;
  uint64_t device_flushes = 0;

  LatencySummary get_l1_us;
  LatencySummary get_l2_us;
  LatencySummary get_l3_us;
  LatencySummary put_us;

  std::string io_engine;       // "uring" or "posix".
  std::string device;          // What stands at L1 and pins L2: "host" or the GPU's name.
  std::string l2_pages;        // "hugetlb", "transparent" (asked for), or "small".
  bool io_registered = false;  // L2 is registered with io_uring.
  bool io_direct = false;      // The data files bypass the page cache.
  std::string degraded;        // Empty, or what does not work and why: "L3 writes stopped: ...".

  std::string ToJson() const;
};

}  // namespace cairn
