#pragma once

#include <cstddef>
#include <cstdint>

#include "absl/time/time.h"
#include "cairn/export.h"

namespace cairn {

// What a store did with a tensor, and why. The values are on disk (io/FORMAT.md, "Journal").
enum class Decision : uint8_t {
  kPut = 0,              // Put: it is in L2.
  kPutFrom,              // Written from the caller's memory past L2.
  kPutRefused,           // Not put: no room in time.
  kAdmittedPromised,     // To L3, as the put was promised that.
  kAdmittedSecondSight,  // To L3: wanted again, and the write budget had bytes for that.
  kAdmittedFirstSight,   // To L3: new, and there was no write budget or it had bytes in hand.
  kRefusedPartial,       // In L2 alone: a block that is not full yet.
  kRefusedFirstSight,    // In L2 alone: new, and the write budget had nothing in hand.
  kRefusedOverBudget,    // In L2 alone: wanted again, and the write budget owed too much.
  kWritten,              // On L3 and in the index.
  kWriteFailed,
  kLoaded,      // From L3 to L2 for who asked for it.
  kPrefetched,  // From L3 to L2 ahead of its use.
  kLoadFailed,  // Its bytes could not be read; the next may try again.
  kDamaged,     // Its bytes on L3 do not verify: none sees them.
  kLifted,      // To L1.
  kEvictedL1,   // From L1, for room.
  kDroppedL1,   // From L1, as Evict asked.
  kEvictedL2,   // From L2, for room; it is on L3.
  kPressedL2,   // From L2, as memory ran short; it is on L3.
  kDroppedL2,   // From L2, as Evict asked.
  kClearedL2,   // From L2, to make one room of several; it is on L3.
  kMovedL2,     // To another place in L2, for the same reason.
  kLost,        // From L2, for room or for want of memory, and it was not on L3: it is gone.
  kEvictedL3,   // From L3, for room there or in the index: it is gone.
  kReplaced,    // By a newer put of its key.
  kErased,      // By Erase, ErasePrefix or a purge.
  kExpired,     // Its time to live was over.
  kClearedL1,   // From L1, to make one room of several.
  kMovedL1,     // To another place in L1, for the same reason.
  kClearedL3,   // From L3, to make one room of several: it is gone.
  kMovedL3,     // To another place on L3, for the same reason.
};
inline constexpr size_t kDecisions = static_cast<size_t>(Decision::kMovedL3) + 1;

// As in JSON: "evicted_l2".
CAIRN_EXPORT const char* DecisionName(Decision decision);
// In words: "left L2 for room; it is on L3".
CAIRN_EXPORT const char* DecisionText(Decision decision);

struct JournalEntry {
  absl::Time time;  // By the store's wall clock.
  Decision decision = Decision::kPut;
  uint64_t bytes = 0;  // Of the tensor; of an admission to L3 what it takes there.
};

}  // namespace cairn
