#pragma once

#include <cstdint>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "absl/types/span.h"
#include "cairn/tensor.h"
#include "io/async_io.h"
#include "src/directory.h"
#include "src/entry.h"
#include "src/stats_recorder.h"
#include "tiers/nvme_tier.h"
#include "tiers/pinned_tier.h"

namespace cairn {

// Requests gathered by the calls that make them, submitted by the verb in one go.
using IoBatch = std::vector<IoOp*>;

// Moves one tensor up: reads it from L3 in chunks of 1 MiB, checks each while the next ones are
// under way, and reads everything once more before it says that the bytes are damaged.
//
//   start -> chunks in flight -> last chunk: sums right? -> done
//                                    | no, first time: start again
//                                    | no: kDataLoss
struct FillContext {
  Directory* directory;
  PinnedTier* l2;
  NvmeTier* l3;
  StatsRecorder* stats;
};

// Into the entry's extent in L2, after Directory::BeginFill; ends in Directory::EndFill.
void StartFill(const FillContext& context, Entry* entry, std::byte* target, IoPriority priority,
               IoBatch& batch);

// The same with nobody who waits: until EndFill who comes to do so raises its reads
// (RaisableFill).
void StartPrefetch(const FillContext& context, Entry* entry, std::byte* target, IoPriority priority,
                   IoBatch& batch);

// Into the caller's memory: pieces aligned to 4096 in address and size, as long as the tensor,
// whose size is a multiple of 4096. The entry is pinned by the caller until `done`, which runs on
// a thread of the engine.
using DirectReadDone = absl::AnyInvocable<void(absl::Status)>;
void StartDirectRead(const FillContext& context, Entry* entry, absl::Span<const Piece> pieces,
                     DirectReadDone done, IoBatch& batch);

// The same behind all others, for who moves the tensor: into memory as long as its whole blocks.
// Nobody has asked for it, so bytes that do not verify condemn it not before somebody does.
void StartReadToMove(const FillContext& context, Entry* entry, Piece target, DirectReadDone done,
                     IoBatch& batch);

// From L2, where its bytes were verified, into the copy's extent in L1, after
// Directory::BeginLift; ends in Directory::EndLift, at the latest when the copy is done. On a
// status other than OK it has ended so.
absl::Status StartLift(const FillContext& context, L1Copy* l1);

}  // namespace cairn
