#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "cairn/store.h"
#include "tools/offload/block_plan.h"
#include "tools/offload/progress.h"
#include "tools/offload/tally.h"
#include "tools/offload/trace.h"

namespace cairn::offload {

struct ReplayOptions {
  BlockPlan block;
  uint64_t l1_bytes = 0;  // What the store has: bounds how much is pinned at a time. 0: no L1.
  std::vector<int> gpus = {0};  // Each request is served on the next.
  uint64_t l2_bytes = 0;
  double speed = 0;          // Of the trace's clock; 0: as fast as it goes.
  uint32_t concurrency = 1;  // Requests at a time.
  uint32_t hints = 0;        // Requests that wait and are announced to the store, at most.
  uint32_t window = 0;       // Blocks that a request loads at a time, at most; 0: by their size.
  double prefill_tokens_per_s = 10000;
  double decode_tokens_per_s = 0;  // 0: the host takes no time of its own.
};

struct ReplayResult {
  Tally tally;
  // Not OK: the store said what no host can work with (an argument refused, a closed store), and
  // the rest was not replayed. That a block cannot be loaded or stored is none of this: it is
  // counted, and the block computed anew or done without.
  absl::Status status;
};

// "block/00000000000004d2".
std::string BlockKey(uint64_t block_id);

// How many blocks one request loads at a time: enough to keep the device busy, and so few that
// all requests in hand together never pin more than a quarter of L2 or of L1.
size_t WindowBlocks(const ReplayOptions& options);

// Replays the requests in order on options.concurrency threads: finds the longest stored prefix of
// each, restores and compares it, computes the rest and stores it. Ends early, with the requests in
// hand finished, once `stop` says so. Mismatches go to `progress` as they are found.
ReplayResult Replay(Store& store, absl::Span<const Request> requests, const ReplayOptions& options,
                    Progress& progress, const std::function<bool()>& stop);

}  // namespace cairn::offload
