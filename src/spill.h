#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "cairn/tensor.h"
#include "io/async_io.h"
#include "io/record.h"
#include "src/directory.h"
#include "src/entry.h"
#include "src/fill.h"
#include "src/spill_tracker.h"
#include "src/stats_recorder.h"
#include "tiers/nvme_tier.h"

namespace cairn {

// Moves one tensor down: writes record header and payload to its extent, then has the index name
// it. In this order and never another: what the index names is on the device, or at least was
// handed to it, and the checksum tells which.
//
//   start -> writes in flight -> last write -> index -> done
//                                    | failed: given up, the tensor stays in L2 only
struct SpillContext {
  Directory* directory;
  NvmeTier* l3;
  StatsRecorder* stats;
  SpillTracker* tracker;
  StoreUuid store_uuid;
  std::string fingerprint;
};

// The payload is the pieces (in L2, or the caller's memory), which stay untouched until
// Directory::EndSpill. Pieces are aligned to 4096 in address and, but for the last, in size.
// `list` says that the entry is not in the directory yet, and comes there when it is written.
// `flush`: the device is flushed and the index synced.
struct SpillRequest {
  Entry* entry = nullptr;  // Pinned for the spill, with its extent on L3 and its checksum.
  absl::Span<const ConstPiece> pieces;
  std::vector<uint64_t> chunk_sums;
  bool list = false;
  bool flush = false;
};
void StartSpill(const SpillContext& context, SpillRequest request, IoBatch& batch);

}  // namespace cairn
