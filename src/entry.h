#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string_view>
#include <utility>

#include "absl/status/status.h"
#include "cairn/options.h"
#include "cairn/tensor.h"
#include "io/index.h"
#include "src/eviction/policy.h"
#include "src/eviction/snapshot.h"
#include "src/writes_under_way.h"
#include "tiers/allocator.h"
#include "tiers/nvme_tier.h"
#include "tiers/stream_points.h"

namespace cairn {

// A copy of a tensor on one tier:
//
//   kAbsent -> kFilling -> kResident -> kAbsent,  and kFilling -> kAbsent when the move failed
//
// Only a kResident copy is read. A copy that leaves does so under its stripe's lock in one step;
// what takes longer (the index forgetting an L3 extent) holds the whole unlisted entry instead.
enum class CopyState : uint8_t { kAbsent, kFilling, kResident };

struct Entry;
struct Gpu;
struct L1Copy;
class PrefetchQueue;

// A pin on one copy of a tensor, and so on the tensor.
struct Pin {
  Entry* entry = nullptr;  // Null: none.
  L1Copy* l1 = nullptr;    // Null: on the copy in L2.
};

// The reads of a prefetch, until its fill ends.
class RaisableFill {
 public:
  virtual ~RaisableFill() = default;
  // Somebody waits for the tensor now. With the lock of its stripe held.
  virtual void Raise() = 0;
};

// Someone who waits for a copy in L2, or in L1. Owned by the waiter, linked from Directory until
// OnFilled.
class FillWaiter {
 public:
  virtual ~FillWaiter() = default;
  // Once, on a thread of the engine or of L1, without a lock held. OK: the copy that was waited for
  // is there, and `pin` is on it, for this waiter. Else there is no pin. May destroy this.
  virtual void OnFilled(absl::Status status, Pin pin) = 0;
  // It is about to be linked, with the stripe's lock held.
  virtual void BeforeWaiting() {}
  // Puts it before the others of a list.
  void Link(FillWaiter*& first) {
    BeforeWaiting();
    next = std::exchange(first, this);
  }
  FillWaiter* next = nullptr;
};

// Someone who waits until a tensor is on L3 and in the index. As above; `entry` is not pinned.
class SpillWaiter {
 public:
  virtual ~SpillWaiter() = default;
  virtual void OnSpilled(absl::Status status) = 0;
  SpillWaiter* next = nullptr;
};

// An entry's copy in the L1 of one GPU, from the beginning of its lift until it leaves. Its base is
// its place in that L1's order of eviction.
struct L1Copy final : EvictionNode {
  L1Copy(Entry* owner, Gpu* place, Extent target) : entry(owner), gpu(place), extent(target) {}

  Entry* const entry;
  Gpu* const gpu;
  // Constant while it is resident and pinned by another than who moves it.
  Extent extent;

  // Guarded by the lock of the key's stripe.
  std::unique_ptr<L1Copy> next;  // The entry's copy on another GPU. Null: no more.
  FillWaiter* waiters = nullptr;
  uint32_t pins = 0;      // Of Entry::pins, those that are on this copy.
  bool resident = false;  // Else its copy is on its way, or has failed.
  bool started =
      false;            // The stream of L1 has been given the copy: another stream can wait for it.
  bool failed = false;  // Its bytes are garbage. Stays as long as it is pinned.
  // Handles that were given up in the order of its GPU's streams, which may read it yet.
  StreamReaders readers;
};

// What an entry has only while it is hot: in L1, in L2 or on its way up or down, waited for, or
// holding what it replaced. Its base is its place in L2's order of eviction.
struct HotPart final : EvictionNode {
  explicit HotPart(Entry* owner) : entry(owner) {}

  Entry* const entry;
  // Constant while the copy in L2 is resident and pinned by another than who moves it.
  Extent l2_extent;

  // Guarded by the lock of the key's stripe.
  FillWaiter* fill_waiters = nullptr;
  SpillWaiter* spill_waiters = nullptr;
  // The write this one replaced, or that was to take its place, while the index names it or may
  // come to. Pinned.
  Entry* replaced = nullptr;
  WritesUnderWay::Write write;  // Until the spill has ended.
  std::unique_ptr<L1Copy> l1;   // The first of them, one for each GPU at most. Null: none.
  bool dirty = false;           // Spilling from L2: its bytes count as dirty.
  // L3 let it go while it was being written: until that ends. Read by threads of the engine, too.
  std::atomic<bool> abandoned = false;
  // Whose prefetch brings it to L2, and that one's PrefetchQueue::Began; null when it was asked for
  // since.
  PrefetchQueue* prefetched_by = nullptr;
  uint32_t prefetched = 0;
  bool wanted = false;               // On its way by a prefetch, and asked for.
  RaisableFill* raisable = nullptr;  // Of a prefetch.
};

// What will be free once the index has forgotten an entry, and its write has ended.
struct LeavingBytes {
  uint64_t l3 = 0;
  uint64_t index = 0;
};

// One write of one tensor: its identity and its copies. Listed in the directory under its key
// until it is replaced, erased or evicted; it lives on, unlisted, until its last pin is gone, so
// readers of an old value finish undisturbed.
//
// There are as many as tensors on L3, and most are never asked for again: so it is one block of
// memory, the key and the shape behind its fields, and what only few have at a time is in the
// HotPart. Its base is its place in L3's order of eviction.
struct Entry final : EvictionNode {
 public:
  // With everything the record has but its place in a pack, and the key. Where `record.offset` is
  // 0, no place on L3 yet.
  static std::unique_ptr<Entry> Create(IndexKey key, const IndexRecord& record);
  Entry(const Entry&) = delete;
  Entry& operator=(const Entry&) = delete;
  // It is longer than its type.
  static void operator delete(void* memory) { ::operator delete(memory); }

  // ---- Constant ----
  std::string_view key() const { return {tail(), key_bytes_}; }
  uint32_t fingerprint_id() const { return fingerprint_id_; }
  uint64_t hash() const { return HashKey({fingerprint_id_, key()}); }
  uint64_t sequence() const { return sequence_; }
  uint64_t bytes() const { return bytes_; }
  TensorMeta meta() const;
  uint8_t rank() const { return rank_; }
  TensorClass tensor_class() const { return static_cast<TensorClass>(tensor_class_); }
  uint8_t recompute_level() const { return recompute_level_; }
  Retention retention() const { return keep_ ? Retention::kKeep : Retention::kCache; }
  int64_t expires_unix_ms() const;  // 0: never.
  bool Expired(int64_t now_unix_ms) const {
    return has_expiry_ && expires_unix_ms() <= now_unix_ms;
  }

  // ---- Constant once its copy on L3 is resident, until that is released; until then its spill
  // may move it ----
  uint32_t header_bytes() const { return header_blocks_ * uint32_t{kBlockBytes}; }
  void set_header_bytes(uint64_t bytes);
  // Header and payload; in a pack the payload. No bytes: no place on L3.
  Extent l3_extent() const;
  // How long that is, which no move changes.
  uint64_t l3_bytes() const;
  // Must be as long as bytes() and header_bytes() ask for.
  void set_l3_extent(Extent extent);
  Extent TakeL3Extent();
  uint64_t l3_payload_offset() const { return l3_offset_ + (pack == nullptr ? header_bytes() : 0); }
  PackExtent* pack = nullptr;  // Shared with the other members. Before the extent.
  uint64_t checksum = 0;

  // ---- Guarded by the lock of the key's stripe ----
  uint32_t pins = 0;  // Handles, moves in flight, removals in the index.
  uint32_t leases = 0;
  CopyState l2 : 2 = CopyState::kAbsent;
  CopyState l3 : 2 = CopyState::kAbsent;
  bool listed : 1 = false;
  bool counted : 1 = false;      // Has been listed: Directory::index_bytes has it.
  bool spilling : 1 = false;     // From its creation to EndSpill.
  bool used : 1 = false;         // While it was spilling: L2's policy has not heard of it yet.
  bool indexed : 1 = false;      // A put of it was handed to the index writer.
  bool refused : 1 = false;      // By admission to L3: L2 alone has it, and may let it go.
  bool quarantined : 1 = false;  // Its bytes on L3 did not verify.
  bool partial : 1 = false;      // A block that is not full yet (PutOptions::partial_block).

  // Null while it is cold. Stays while there is a copy in L2 or L1: a pin on that is enough to
  // look.
  HotPart* hot() const { return hot_.get(); }
  HotPart& MakeHot();
  // The copies in L1: on this GPU, if there is one; and the first of all, with the others behind.
  L1Copy* l1(const Gpu* gpu) const {
    L1Copy* copy = first_l1();
    while (copy != nullptr && copy->gpu != gpu) copy = copy->next.get();
    return copy;
  }
  L1Copy* first_l1() const { return hot_ == nullptr ? nullptr : hot_->l1.get(); }
  // `gpu` has none.
  L1Copy& AddL1(Gpu* gpu, Extent target);
  std::unique_ptr<L1Copy> TakeL1(L1Copy* copy);
  // Those that keep the copy in L2 where it is.
  uint32_t pins_below_l1() const {
    uint32_t below = pins;
    for (const L1Copy* l1 = first_l1(); l1 != nullptr; l1 = l1->next.get()) below -= l1->pins;
    return below;
  }
  // Lets go of the hot part if it is in use for nothing any more; no node of it is tracked then.
  void CoolDown();
  Entry* replaced() const { return hot_ == nullptr ? nullptr : hot_->replaced; }
  Entry* TakeReplaced();

  IndexRecord Record() const;
  // Of the index and of what is beside it (EvictionFile), at most.
  uint64_t index_bytes() const {
    return IndexFootprintBytes(key_bytes_, rank_) + SnapshotPiece::kIndexedCopyBytes;
  }
  LeavingBytes leaving_bytes() const { return {l3_bytes(), index_bytes()}; }

 private:
  Entry(IndexKey key, const IndexRecord& record);
  char* tail() { return reinterpret_cast<char*>(this + 1); }
  const char* tail() const { return reinterpret_cast<const char*>(this + 1); }
  const char* dims() const { return tail() + key_bytes_ + (has_expiry_ ? sizeof(int64_t) : 0); }

  // In an order that leaves no gap. No field that is read without the lock shares bits with one
  // that is written under it.
  const DType dtype_;
  const uint8_t rank_;
  const uint8_t key_bytes_;
  const uint8_t tensor_class_ : 2;
  const uint8_t recompute_level_ : 4;
  const bool keep_ : 1;
  const bool has_expiry_ : 1;
  uint16_t header_blocks_ = 0;
  const uint32_t bytes_;
  const uint32_t fingerprint_id_;
  const uint64_t sequence_;
  uint64_t l3_offset_ = 0;
  std::unique_ptr<HotPart> hot_;
  // Behind it: the key; when it expires, if it does; its dimensions.
};

}  // namespace cairn
