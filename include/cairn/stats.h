#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "cairn/export.h"
#include "cairn/journal.h"
#include "cairn/tensor.h"

namespace cairn {

// Microseconds from a histogram with 3 % wide buckets; 0 when nothing was measured.
struct LatencySummary {
  uint64_t count = 0;
  uint64_t p50_us = 0;
  uint64_t p99_us = 0;
  uint64_t max_us = 0;
};

// Of one class of tensors (PutOptions::tensor_class) in one tier. All of them together are the
// tier's figures of the same names.
struct ClassStats {
  uint64_t bytes = 0;  // Tensor bytes. Like the next, not counted in L1.
  uint64_t tensors = 0;
  uint64_t hits = 0;       // What L2 has missed of a class is its hits in L3.
  uint64_t evictions = 0;  // Not counted in L1.
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
  // How the free space lies: its longest run; the share of it that is not in that run (near 1 for
  // any tier in use); and the share that tensors of the sizes that came of late cannot use, as a
  // free run has room only for as many as fit it whole, each size counted by its bytes.
  uint64_t bytes_free_longest = 0;
  double free_share_scattered = 0;
  double free_share_unusable = 0;
  // Within the tier, for long free runs (StoreOptions::unusable_share_max): stretches that were
  // emptied, their bytes, and what was moved or let go for it. What is moved within L3 is in its
  // bytes_written, and what is let go there in its evictions, too.
  uint64_t windows_emptied = 0;
  uint64_t bytes_emptied = 0;
  uint64_t bytes_moved = 0;
  std::array<ClassStats, kTensorClasses> classes;  // By TensorClass.
};

// What is written to L3 beside what may be (StoreOptions::l3_write_bytes_per_day), from Open on.
// All 0 without a budget.
struct WriteBudgetStats {
  uint64_t bytes_per_day = 0;
  // What was in hand at Open, and what the budget has given since; it gives nothing while it is
  // full. Under demand bytes_written keeps to it.
  uint64_t bytes_granted = 0;
  uint64_t bytes_written = 0;  // Admitted, or moved within L3: with record headers and padding.
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

// One of StoreOptions::gpus, and the L1 there.
struct GpuStats {
  int ordinal = 0;
  std::string device;  // "host" or the GPU's name.
  TierStats l1;
};

// A directory with data files of L3: StoreOptions::data_paths, or PATH/data alone.
struct DriveStats {
  std::string path;
  uint32_t weight = 1;      // StoreOptions::data_weights in lowest terms.
  uint64_t bytes_max = 0;   // For tensors; of one that is drained what is in use.
  uint64_t bytes_used = 0;  // Of those, with what is quarantined.
  uint64_t requests = 0;
  uint64_t errors = 0;           // Of those: the device refused.
  uint64_t service_us_mean = 0;  // From the device's taking a request to its answer.
  // Not empty: nothing more is put there until the next Open, and why. Of several drives one that
  // refuses an eighth of its requests is drained, and one that takes 8 times as long as the others
  // and 20 ms for a request, for 15 s. What is there is read on.
  std::string drained;
};

enum class PressureLevel : uint8_t { kLow, kMedium, kHigh };
CAIRN_EXPORT const char* PressureLevelName(PressureLevel level);  // "low", "medium", "high"

// How short the host's memory is, and what the store did about it
// (StoreOptions::heed_memory_pressure, which says what the levels are). Without that only
// l2_bytes_usable is not 0.
struct PressureStats {
  PressureLevel level = PressureLevel::kLow;
  uint32_t percent = 0;      // 100: nothing is free.
  uint32_t percent_max = 0;  // Since Open.
  // As last read. 0: not known. What is free counts what the kernel could drop.
  uint64_t host_bytes = 0;
  uint64_t host_bytes_free = 0;
  uint64_t group_bytes = 0;  // Of the control group with least to spare: its limit.
  uint64_t group_bytes_free = 0;
  uint32_t stall_percent = 0;       // Of the time some task of the control group waited for memory,
  uint32_t stall_percent_host = 0;  // and of all.
  PressureLevel gpu_level = PressureLevel::kLow;
  uint64_t gpu_bytes = 0;  // Of the GPU that is shortest of it.
  uint64_t gpu_bytes_free = 0;

  uint64_t readings = 0;
  uint64_t times_medium = 0;  // That the level rose to it.
  uint64_t times_high = 0;
  uint64_t l2_bytes_usable = 0;      // Of L2's bytes_max, what is in use now.
  uint64_t l2_bytes_given_back = 0;  // To the system, and
  uint64_t l2_bytes_taken_back = 0;  // from it again.
  uint64_t l2_evictions = 0;         // Tensors that left L2 for it: of TierStats::evictions.
  uint64_t prefetches_refused = 0;   // Of prefetches_dropped.
  std::string l2_kept_because;       // Why L2 cannot be given back; empty: it can.
};

// One moment of a store. Counters run from Open; sizes are as of the call. Counters of different
// names are read one after the other: they may differ by what happens meanwhile. But a sum is that
// of its parts, in every snapshot, and what is counted "of those" is never more than those.
struct CAIRN_EXPORT StatsSnapshot {
  // Of all GPUs together, a tensor counted on each that it is on; the longest free run is of one,
  // the shares are of all their free space.
  TierStats l1;
  TierStats l2;
  TierStats l3;
  std::vector<GpuStats> gpus;  // As in StoreOptions. Empty without an L1.

  uint64_t puts = 0;
  uint64_t puts_kept_existing = 0;  // IfExists::kKeep found the key.
  uint64_t puts_refused = 0;        // No room before the deadline, or no data file takes writes.
  // Tensors that Get verbs were asked for, each counted when it has its answer: the hits of all
  // tiers, misses and gets_failed together.
  uint64_t gets = 0;
  uint64_t misses = 0;       // kNotFound.
  uint64_t gets_failed = 0;  // Another error than that, and not found in any tier before it.
  uint64_t erases = 0;
  uint64_t expirations = 0;  // TTL.

  uint64_t fills = 0;           // L3 to L2.
  uint64_t lifts = 0;           // L2 to L1, each to one GPU.
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
  // Of those that no host asked for (StoreOptions::prefetch_predicted), which none of the above but
  // prefetches_dropped counts: taken, and what became of them.
  uint64_t predictions = 0;
  uint64_t predictions_cancelled = 0;
  uint64_t predictions_used = 0;
  uint64_t predictions_late = 0;
  uint64_t predictions_unused = 0;

  uint64_t checksum_failures = 0;  // Reads whose bytes were not what was written, twice.
  uint64_t read_errors = 0;        // Reads the device refused, twice.
  uint64_t write_errors = 0;       // Writes the device refused, each try of a tensor or a pack.
  uint64_t write_retries = 0;      // Of those: tried once more, in another place on L3.
  // How fast L3 reads: the mean over the last second or so in which a MiB or more was asked of it,
  // all drives together, competing writes and stalls included; and how long a read takes when less
  // is asked for, the mean of the last eight or so. Until then 1 GiB/s for each drive, and 100 us.
  uint64_t l3_read_bytes_per_second = 0;
  uint64_t l3_read_latency_us = 0;
  uint64_t l3_read_bytes_under_way = 0;  // Queued, or with the device.

  // Free space of L3 where a write failed: not used until the next Open, so that a bad place of the
  // medium is not given to the next put. At most 1/64 of L3; past that the oldest is used again.
  uint64_t l3_bytes_quarantined = 0;
  // Data files out of use until the next Open because a flush of them failed: nothing more is put
  // there, and nothing that lies there is acknowledged as flushed. `degraded` names them.
  uint64_t data_files_given_up = 0;
  std::vector<DriveStats> drives;
  uint64_t quarantined = 0;        // Tensors that answer kDataLoss until they are put again.
  uint64_t recovered_tensors = 0;  // Found on L3 at Open.
  uint64_t recovery_dropped = 0;   // Index entries at Open that could not be true.

  // How often each was decided (cairn/journal.h).
  std::array<uint64_t, kDecisions> decisions = {};

  WriteBudgetStats write_budget;
  PressureStats pressure;
  uint64_t device_bytes_written = 0;  // With record headers and padding, without the index.
  uint64_t io_retries = 0;            // Short, interrupted or busy requests continued.
  uint64_t index_commits = 0;
  uint64_t device_flushes = 0;

  LatencySummary get_l1_us;
  LatencySummary get_l2_us;
  LatencySummary get_l3_us;
  LatencySummary put_us;

  std::string io_engine;  // "uring" or "posix".
  // Of what StoreOptions::io_submission_polling and io_completion_polling ask for, what is done
  // (completions: of one data file at least, which a request has shown), and why not all; empty: it
  // is. And how many rings and requests were refused; the requests were carried out without.
  bool io_submissions_polled = false;
  bool io_completions_polled = false;
  std::string io_polling_refusal;
  uint64_t io_polling_refusals = 0;
  std::string device;    // What pins L2, and stands at L1: "host" or the first GPU's name.
  std::string l2_pages;  // "hugetlb", "transparent" (asked for), or "small".
  // Where its pages go on a machine with several NUMA nodes: "64 GiB on node 1; 8 GiB on node 0".
  // Empty: where the system chooses.
  std::string l2_numa_placement;
  // Of L2, what the GPU's driver has pinned so far; it begins at Open and goes on while the store
  // is used. And why it ended before all was; empty: it did not.
  uint64_t l2_bytes_pinned = 0;
  std::string l2_pin_refusal;
  bool io_registered = false;  // L2 is registered with io_uring.
  bool io_direct = false;      // The data files bypass the page cache.
  std::string degraded;        // Empty, or what does not work and why: "L3 writes stopped: ...".

  std::string ToJson() const;
};

}  // namespace cairn
