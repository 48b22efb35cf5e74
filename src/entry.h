#pragma once

#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "cairn/options.h"
#include "cairn/tensor.h"
#include "io/index.h"
#include "src/eviction_policy.h"
#include "tiers/allocator.h"
#include "tiers/nvme_tier.h"

namespace cairn {

// A copy of a tensor on one tier:
//
//   kAbsent -> kFilling -> kResident -> kAbsent,  and kFilling -> kAbsent when the move failed
//
// Only a kResident copy is read. A copy that leaves does so under its stripe's lock in one step;
// what takes longer (the index forgetting an L3 extent) holds the whole unlisted entry instead.
enum class CopyState : uint8_t { kAbsent, kFilling, kResident };

struct Entry;

// Someone who waits for a copy in L2. Owned by the waiter, linked from Directory until OnFilled.
class FillWaiter {
 public:
  virtual ~FillWaiter() = default;
  // Once, on a thread of the engine, without a lock held. OK: `entry` is in L2 and pinned once for
  // this waiter. May destroy this.
  virtual void OnFilled(absl::Status status, Entry* entry) = 0;
  FillWaiter* next = nullptr;
};

// Someone who waits until a tensor is on L3 and in the index. As above; `entry` is not pinned.
class SpillWaiter {
 public:
  virtual ~SpillWaiter() = default;
  virtual void OnSpilled(absl::Status status) = 0;
  SpillWaiter* next = nullptr;
};

// One write of one tensor: its identity and its copies. Listed in the directory under its key
// until it is replaced, erased or evicted; it lives on, unlisted, until its last pin is gone, so
// readers of an old value finish undisturbed.
struct Entry {
  // Constant once listed (checksum and the extents: once their copy is resident; until then an
  // extent keeps its size, and its spill may move it).
  std::string key;  // EncodeIndexKey's form is made when needed; this is the caller's key.
  uint32_t fingerprint_id = 0;
  uint32_t header_bytes = 0;
  uint64_t hash = 0;  // HashKey.
  uint64_t sequence = 0;
  uint64_t bytes = 0;
  uint64_t checksum = 0;
  TensorMeta meta;
  TensorClass tensor_class = TensorClass::kGeneral;
  Retention retention = Retention::kCache;
  int64_t expires_unix_ms = 0;  // 0: never.
  Extent l2_extent;
  Extent l3_extent;            // Header and payload; in a pack the payload.
  PackExtent* pack = nullptr;  // Shared with the other members.

  // Guarded by the lock of the key's stripe.
  CopyState l2 = CopyState::kAbsent;
  CopyState l3 = CopyState::kAbsent;
  bool listed = false;
  bool counted = false;       // Has been listed: Directory::index_bytes has it.
  bool spilling = false;      // From its creation to EndSpill.
  bool dirty = false;         // Spilling from L2: its bytes count as dirty.
  bool indexed = false;       // A put of it was handed to the index writer.
  bool spill_failed = false;  // It could not be written to L3 and may leave L2 unwritten.
  bool quarantined = false;   // Its bytes on L3 did not verify.
  uint32_t pins = 0;          // Handles, moves in flight, removals in the index.
  uint32_t leases = 0;
  FillWaiter* fill_waiters = nullptr;
  SpillWaiter* spill_waiters = nullptr;
  // The write this one replaced, while the index names it or may come to. Pinned.
  Entry* replaced = nullptr;

  // Guarded by the lock of the tier's policy.
  EvictionNode l2_node;
  EvictionNode l3_node;

  Entry() { l2_node.entry = l3_node.entry = this; }
  Entry(const Entry&) = delete;
  Entry& operator=(const Entry&) = delete;

  IndexRecord Record() const {
    return {.sequence = sequence,
            .offset = l3_extent.offset,
            .pack_offset = pack == nullptr ? 0 : pack->table.offset,
            .header_bytes = header_bytes,
            .payload_bytes = bytes,
            .checksum = checksum,
            .meta = meta,
            .tensor_class = tensor_class,
            .retention = retention,
            .expires_unix_ms = expires_unix_ms};
  }
  uint64_t index_bytes() const { return IndexFootprintBytes(key.size(), meta.rank); }
  uint64_t l3_payload_offset() const {
    return l3_extent.offset + (pack == nullptr ? header_bytes : 0);
  }
  bool Expired(int64_t now_unix_ms) const {
    return expires_unix_ms != 0 && expires_unix_ms <= now_unix_ms;
  }
};

}  // namespace cairn
