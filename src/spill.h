#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "absl/container/inlined_vector.h"
#include "absl/functional/any_invocable.h"
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

// Moves tensors down: writes header and payload, then has the index name them. In this order and
// never another: what the index names is on the device, or at least was handed to it, and the
// checksum tells which.
//
//   start -> writes in flight -> last write -> index -> done
//                 ^                  | failed: all of it once more in another extent,
//                 '------------------' if there is one; else given up, and the tensor is in L2 only
//
// What the device failed to write is distrusted (NvmeTier::Distrust), wherever it was. The extents
// of an entry, and the table of its pack, may move until Directory::BeginCommit: nobody but the
// spill looks at their offsets before.
struct SpillContext {
  Directory* directory;
  NvmeTier* l3;
  StatsRecorder* stats;
  SpillTracker* tracker;
  StoreUuid store_uuid;
  std::string fingerprint;
};

// A tensor that is to be written.
struct SpillTensor {
  Entry* entry = nullptr;  // Pinned for the spill, with its extent on L3 and its checksum.
  // The payload, in L2 or in the caller's memory, untouched until Directory::EndSpill: aligned to
  // 4096 in address and, but for the last piece, in size.
  absl::InlinedVector<ConstPiece, 1> pieces;
  bool list = false;   // Not in the directory yet: comes there when it is written.
  bool flush = false;  // The device is flushed and the index synced before it counts as written.
  // Not a put: the entry, which has a record of its own, is written to take the place of this one,
  // pinned too (Directory::CommitRewrite). That it could not be loses nothing, and is no failure of
  // L3; `rewritten` hears it at the end.
  Entry* rewrite_of = nullptr;
  std::function<void(bool moved)> rewritten;
};

class Spill;

// One tensor with a record of its own; SpillTracker::Begin is called here. Puts into `batch` what
// can be written before the payload's sums are known: the device has it while they are made. The
// entry's checksum need not be there yet. FinishSpill must follow.
Spill* StartSpill(const SpillContext& context, const SpillTensor& tensor, IoBatch& batch);
// The rest, now that the entry has its checksum. The spill owns itself from here on.
void FinishSpill(Spill* spill, std::vector<uint64_t> chunk_sums, IoBatch& batch);

// Tensors in one pack, whose entries have it, behind one another and with the table behind the
// last. The tracker knows of them already. `written` is called once, on a thread of the engine,
// when the device is done with the write.
void StartPackSpill(const SpillContext& context, PackExtent* pack, std::vector<SpillTensor> tensors,
                    absl::AnyInvocable<void()> written, IoBatch& batch);

}  // namespace cairn
