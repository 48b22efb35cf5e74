#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/functional/any_invocable.h"
#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "cairn/store.h"
#include "io/index.h"
#include "io/index_writer.h"
#include "src/admission/admission.h"
#include "src/base/mutex.h"
#include "src/class_counts.h"
#include "src/entry.h"
#include "src/entry_set.h"
#include "src/gpu.h"
#include "src/journal.h"
#include "src/prefetch_queue.h"
#include "src/spill_tracker.h"
#include "src/tier_eviction.h"
#include "src/writes_under_way.h"
#include "tiers/nvme_tier.h"
#include "tiers/pinned_tier.h"

namespace cairn {

// A search for what may leave a tier whose coldest copies are all in use goes on later rather than
// to the end.
inline constexpr uint64_t kEvictionTriesMax = 256;

// What exists and where: every tensor's entry, in stripes with a lock each, and the only code that
// changes the state of a copy. Each method is one step of a verb or of a move, takes one stripe's
// lock and asserts the states it goes from; what is slow (bytes, the device, the index) happens
// between the steps, in fill.cc, spill.cc and the verbs.
//
// An Entry* is valid while its holder has a pin on it. Thread-safe.
class Directory {
 public:
  struct Parts {
    PinnedTier* l2;
    NvmeTier* l3;
    TierEviction* l2_eviction;
    TierEviction* l3_eviction;
    IndexWriter* index_writer;
    Admission* admission;
    Journal* journal;
    WritesUnderWay* writes;
    // A tensor that admission refused is used. With its stripe's lock held.
    std::function<void(const Entry& entry)> refused_used;
    // Memory or disk may have become free, or evictable.
    std::function<void()> room_made;
  };
  Directory(uint32_t stripe_count, Parts parts);
  ~Directory();

  // ---- Looking up ----
  enum class Found : uint8_t {
    kMiss,
    kQuarantined,
    kPinned,     // In the tier that was asked for, pinned there for the caller.
    kJoined,     // A fill is under way; the waiter will hear of it.
    kNeedsFill,  // Only on L3. BeginFill is next.
    kInFlight,   // Pinned in L1, and the stream of L1 was given its copy: to be waited for.
  };
  struct Lookup {
    Found found = Found::kMiss;
    Entry* entry = nullptr;  // kPinned.
    uint64_t bytes = 0;      // kNeedsFill.
    bool raised = false;     // kJoined: reads of a prefetch, which AsyncIo is to regard.
    L1Copy* l1 = nullptr;    // Which copy in L1 is pinned, or in flight.

    Pin pin() const { return {entry, l1}; }
  };
  // Counts as a use, unless a lease says that it has been counted already (UseLeased). `waiter` may
  // be null, for a prefetch: then a fill under way is kJoined without a trace, and the tensor was
  // not asked for, nor used.
  Lookup Acquire(const HashedKey& key, int64_t now_unix_ms, FillWaiter* waiter);

  // Pins the entry for a read from L3 into the caller's memory if that is where it is: kNeedsFill
  // with the entry pinned, else as Acquire without waiter.
  Lookup AcquireForDirectRead(const HashedKey& key, int64_t now_unix_ms);

  // `bytes_to_read`: what a Get would ask of L3 for it.
  bool Describe(const HashedKey& key, int64_t now_unix_ms, TensorInfo* info,
                uint64_t* bytes_to_read) const;
  // True if the key is there and may be read; then counts as a use when `touch`.
  bool Contains(const HashedKey& key, int64_t now_unix_ms, bool touch);
  // Where on L3 the key's tensor lies if it is written and in the index.
  std::optional<uint64_t> FindOnL3(const HashedKey& key) const;
  // The key with this hash if its tensor is to be had from L3 alone, and not on its way. Two keys
  // of one hash are told apart by nobody here: for guesses.
  std::optional<std::string> FindOnL3Alone(uint64_t key_hash) const;
  // The keys are looked up together, in order, as EvictionPolicy::Request says.
  void Request(absl::Span<const HashedKey> keys);
  // Adds a lease; null when not there, quarantined or expired. `info` and `bytes_to_read` as
  // Describe.
  Entry* AddLease(const HashedKey& key, int64_t now_unix_ms, TensorInfo* info,
                  uint64_t* bytes_to_read);
  void DropLease(Entry* entry);
  // Counts as a use of an entry on which the caller has a lease.
  void UseLeased(Entry* entry);
  // Listed entries of one stripe after the other, each under its lock: the visitor must be short.
  void ForEach(absl::FunctionRef<void(const Entry&, const TensorInfo&)> visitor) const;

  void Unpin(Entry* entry) { Unpin(Pin{entry}); }
  // `read_until`, of a pin on a copy in L1: a stream of that GPU may read it until it is there.
  void Unpin(Pin pin, std::shared_ptr<StreamPoint> read_until = nullptr);

  // ---- Coming ----
  // Lists a new tensor, pinned once for its spill: l2 is kResident (its bytes are in l2_extent) or
  // kAbsent, l3 kFilling, or kAbsent when it is refused. Replaces what the key named.
  void List(std::unique_ptr<Entry> entry);
  // Lists what the index names at Open. Once, by one thread; then RestoreEviction, then
  // TrackRecovered.
  void ListRecovered(absl::Span<Entry* const> entries);
  // Gives a piece of what was known of the order of eviction on L3 back.
  void RestoreEviction(const SnapshotPiece& piece);
  // What no piece has named is new, in the order of the entries.
  void TrackRecovered(absl::Span<Entry* const> entries);

  // ---- Fill ----
  // Makes the caller the filler: l2 becomes kFilling in `target`, the entry is pinned for the
  // fill, the waiter linked. Null, with nothing changed, when the state is no longer kNeedsFill.
  // `prefetch`: whose account it is on; null: somebody asks for it.
  Entry* BeginFill(const HashedKey& key, Extent target, FillWaiter* waiter,
                   PrefetchQueue* prefetch);
  // From here to EndFill who asks for it raises the reads of its prefetch. True when somebody has
  // asked already.
  bool SetRaisable(Entry* entry, RaisableFill* fill);
  // Ends it and wakes the waiters. A failure of the bytes (kDataLoss) quarantines the entry.
  void EndFill(Entry* entry, const absl::Status& status);
  // After a direct read that failed.
  void Quarantine(Entry* entry);

  // ---- L1 of a GPU (directory_l1.cc) ----
  // Looks there alone: kMiss, kPinned, kJoined, or kInFlight for a caller with a stream to wait in.
  // A pin on the copy in L1 keeps it there, and none of the others.
  Lookup AcquireInL1(const HashedKey& key, Gpu* gpu, int64_t now_unix_ms, FillWaiter* waiter,
                     bool has_stream);
  // Begins the copy of an entry, pinned in L2 by the caller, to `target` there. kNeedsFill: the
  // caller makes it (`l1`), the entry is pinned in L2 for that until EndLift, and the waiter is
  // linked; one with a stream has its pin on the copy at once instead. Else `target` is not used
  // and it is as in AcquireInL1, or kQuarantined where an earlier copy failed and is still pinned.
  Lookup BeginLift(Entry* entry, Gpu* gpu, Extent target, FillWaiter* waiter, bool has_stream);
  // The stream of L1 was given the copy. Before EndLift.
  void LiftStarted(L1Copy* l1);
  void EndLift(L1Copy* l1, const absl::Status& status);
  // Lets the coldest copy there go, and says how many bytes are free now; 0: nothing may go.
  uint64_t EvictFromL1(Gpu* gpu);
  // The same for one of about as many bytes that streams may read yet: its place belongs to the
  // caller at once, for a copy to that L1, which comes behind them.
  std::optional<Extent> TakeOverInL1(Gpu* gpu, uint64_t bytes);
  // Streams of the GPU have been seen behind their points: there may be room where they read.
  void ReadersPassed(Gpu* gpu);
  // Drops the key's copies in L1 on all GPUs, or none.
  absl::Status DropFromL1(const HashedKey& key);

  // ---- Spill ----
  // The bytes are on the device: has the index name them, or what replaced them meanwhile, or
  // forget the key if it was removed, so that `change` ends well only when no crash can bring an
  // older write back. `list` says that the entry is not listed yet: now it is, unless a newer write
  // of its key was listed before.
  void BeginCommit(Entry* entry, IndexChange* change, bool list);
  // Ends a spill, unpins the entry and wakes who waits for it.
  void EndSpill(Entry* entry, const absl::Status& status);
  // Links the waiter if a spill of the key's entry is under way. Else false and the outcome so
  // far: OK on L3 and in the index, or why not.
  bool JoinSpill(const HashedKey& key, SpillWaiter* waiter, absl::Status* outcome);

  // ---- Late spill: of what admission refused when it came ----
  struct Refused {
    uint64_t bytes = 0;
    uint64_t extent_bytes = 0;
  };
  // The key's tensor, if it was refused and L2 alone has it.
  std::optional<Refused> FindRefused(const HashedKey& key) const;
  // Makes it spill to `target`, pinned for that, and the tracker know of it. Null, with nothing
  // changed, when it is not refused any more or not of that size.
  Entry* BeginLateSpill(const HashedKey& key, Extent target, SpillTracker& tracker);

  // The table of a pack of tensors that are to be kept is kept with them.
  void KeepPack(PackExtent* pack);

  // ---- Leaving ----
  // Unlists the key's entry; the index forgets it in the background. `committed` hears when it
  // has, or that it could not: then that is tried again. False when no entry was there; `committed`
  // is used all the same, as an earlier removal may not be confirmed yet.
  using Committed = absl::AnyInvocable<void(absl::Status)>;
  bool Remove(const HashedKey& key, Committed committed);
  // The keys whose removal the index has not confirmed yet.
  void ForEachLeaving(
      absl::FunctionRef<void(uint32_t fingerprint_id, std::string_view key)> visitor) const;
  // Tries once more what the index failed to forget in one stripe: 0, 1, ... go round.
  void RetryRemovals(uint32_t stripe);
  // Removes what is past its time in one stripe, any number: 0, 1, ... go round. Says how many.
  uint64_t RemoveExpired(uint32_t stripe, int64_t now_unix_ms);
  // Lets the coldest copy go. 0: nothing may go now. Else the bytes that are free now (L2), or
  // leave (L3, see l3_bytes_leaving). `of_any`: also of what its class is to keep.
  uint64_t EvictFromL2(bool of_any = false);
  uint64_t EvictFromL3(bool of_any = false);
  // Each copy that is resident in L2, and whether it could go as by EvictFromL2. As ForEach.
  void ForEachInL2(absl::FunctionRef<void(Extent, bool may_leave)> visitor) const;
  // Lets go what may of the copies in L2 in these places, whatever their order. Says how many.
  // Where `place_short`, also what is not on L3 yet: it is gone, and its room is free when its
  // write ends, which is not begun any more.
  uint64_t EvictFromL2In(absl::FunctionRef<bool(Extent)> place,
                         absl::FunctionRef<bool(Extent)> place_short);
  // Drops the key's copy in L2, which must be on L3 too.
  absl::Status DropFromL2(const HashedKey& key);

  // ---- Elsewhere in L1 of a GPU, or, where that is null, in L2 (directory_relocation.cc) ----
  // What is resident there in this extent, of a key with this hash, and pinned by nobody.
  bool CanRelocate(const Gpu* gpu, uint64_t key_hash, Extent from) const;
  // Pins it for a copy to elsewhere; none when there is no such. `may_drop`: it is below too.
  Pin BeginRelocation(const Gpu* gpu, uint64_t key_hash, Extent from, bool* may_drop);
  // Its bytes are in `target` too, where it is from here on; without a target, it leaves the tier.
  // Frees the other. False when somebody has pinned it meanwhile, or it must not leave: then it
  // stays where it was.
  bool EndRelocation(Pin pin, std::optional<Extent> target);

  // ---- Elsewhere on L3, by being written anew (directory_rewriting.cc) ----
  // Each tensor with a record of its own that has a byte in one of the ranges. As ForEach.
  void ForEachRecordIn(absl::Span<const Extent> ranges,
                       absl::FunctionRef<void(const Entry&)> visitor) const;
  // Whether a key with this hash has its record in this extent, and nobody holds the tensor.
  bool CanRewrite(uint64_t key_hash, Extent from) const;
  // Pins it for that. Null: no such, or a put of the key is under way. The sequence that it is to
  // have is drawn before. `in_l2`: its copy there is pinned, too.
  Entry* BeginRewrite(uint64_t key_hash, Extent from, bool* in_l2);
  // `rewrite`, which is listed nowhere, is on the device: has the index name it instead of `from`.
  // False, and nothing is changed, when somebody holds that, or it is gone or replaced.
  bool CommitRewrite(Entry* rewrite, Entry* from, IndexChange* change);
  // Unpins both. True: the key's tensor is `rewrite` from here on, with all that was known of it.
  bool EndRewrite(Entry* rewrite, Entry* from, const absl::Status& status);
  // The same tensor leaves the store instead, unless it is to be kept, as by EvictFromL3.
  // `committed` hears when its place is free. False: not so.
  bool ClearFromL3(uint64_t key_hash, Extent from, Committed committed);

  size_t size() const;
  uint64_t dirty_bytes() const { return dirty_bytes_.load(std::memory_order_relaxed); }
  uint64_t refused_count() const { return refused_count_.load(std::memory_order_relaxed); }
  uint64_t kept_bytes() const { return kept_bytes_.load(std::memory_order_relaxed); }
  const ClassCounts& l2_counts() const { return l2_counts_; }
  const ClassCounts& l3_counts() const { return l3_counts_; }
  uint64_t quarantined_count() const { return quarantined_.load(std::memory_order_relaxed); }
  // Extents whose removal the index has not confirmed yet, or which are still being written.
  uint64_t l3_bytes_leaving() const { return l3_bytes_leaving_.load(std::memory_order_acquire); }
  // What the entries take of the index (IndexFootprintBytes), and those of them that leave.
  uint64_t index_bytes() const { return index_bytes_.load(std::memory_order_relaxed); }
  uint64_t index_bytes_leaving() const {
    return index_bytes_leaving_.load(std::memory_order_acquire);
  }

 private:
  class Removal;

  struct alignas(64) Stripe {
    mutable Mutex mutex;
    EntrySet entries ABSL_GUARDED_BY(mutex);
    // The last removal of a key, until the index has confirmed it. The key is the removal's own.
    absl::flat_hash_map<HashedKey, Removal*, EntryHash> removals ABSL_GUARDED_BY(mutex);
  };

  Stripe& StripeFor(uint64_t hash) const { return stripes_[hash >> shift_]; }
  static Entry* Find(const Stripe& stripe, const HashedKey& key)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(stripe.mutex);
  static Entry* FindReadable(const Stripe& stripe, const HashedKey& key, int64_t now_unix_ms)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(stripe.mutex);
  // None, or what is found there; a pin only once it is counted.
  static Pin FindMovable(const Stripe& stripe, const Gpu* gpu, uint64_t key_hash, Extent from)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(stripe.mutex);
  // Of one who is pinned no more: whether the copy has left its place. Swaps `target` for that.
  bool LeavePlaceInL1(L1Copy* l1, std::optional<Extent>& target);
  bool LeavePlaceInL2(Entry* entry, std::optional<Extent>& target);
  static bool MayBeRewritten(const Entry& entry);
  static Entry* FindOnL3At(const Stripe& stripe, uint64_t key_hash, Extent from)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(stripe.mutex);
  void ListRewrite(Stripe& stripe, Entry* from, Entry* rewrite)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(stripe.mutex);
  static Entry* FindCandidate(const Stripe& stripe, const TierEviction::Candidate& candidate)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(stripe.mutex);
  void Note(const Entry& entry, Decision decision) const {
    parts_.journal->Note(entry.hash(), decision, entry.bytes());
  }
  void Touch(Entry* entry);
  // True when that raised the reads of a prefetch.
  static bool JoinFillLocked(HotPart& hot, FillWaiter* waiter);
  void TellRefusedUsed(const Entry& entry);
  // The copy in L2, or on its way there, that a prefetch brought: no more than once.
  void EndPrefetch(Entry* entry, PrefetchQueue::End end);
  void TellAsked(Entry* entry);
  // Puts the entry under its key. What the key named before is unlisted; it is returned when that
  // was its end and the caller must Bury it outside the lock.
  Entry* ListLocked(Stripe& stripe, Entry* entry) ABSL_EXCLUSIVE_LOCKS_REQUIRED(stripe.mutex);
  // For an entry that is written and not listed yet: true, and it is not to be listed, when the key
  // names a newer write already.
  bool YieldToNewer(Stripe& stripe, Entry* entry) ABSL_EXCLUSIVE_LOCKS_REQUIRED(stripe.mutex);
  void Unlist(Stripe& stripe, Entry* entry) ABSL_EXCLUSIVE_LOCKS_REQUIRED(stripe.mutex);
  // Unlists, and hands what the index may still say of the key to the index writer as a removal,
  // which pins the entry. False when the index knows nothing of it.
  bool RemoveLocked(Stripe& stripe, Entry* entry) ABSL_EXCLUSIVE_LOCKS_REQUIRED(stripe.mutex);
  // Has the index forget the entry's key, or that of what it replaced (entry null). Pinned by the
  // caller for it.
  void EnqueueRemoval(Stripe& stripe, Entry* entry, Entry* replaced)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(stripe.mutex);
  // Links `committed` to the removal of the key that is not confirmed yet, if there is one.
  bool JoinRemoval(Stripe& stripe, const HashedKey& key, Committed& committed)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(stripe.mutex);
  void EndRemoval(Removal* removal, const absl::Status& status);
  // The index names the entry: a removal of its key that failed before has become void. Null or
  // what is to be released outside the lock.
  static Removal* TakeVoidRemoval(Stripe& stripe, const Entry& entry)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(stripe.mutex);
  static void ReleaseRemoval(Removal* removal);
  static void AbandonRemovals(Stripe& stripe) ABSL_EXCLUSIVE_LOCKS_REQUIRED(stripe.mutex);
  // Deletes an entry without giving its extents back: the tiers end too.
  static void Forget(Entry* entry);
  // Unpins what a write replaced, oldest last, when the index names none of it any more.
  void ReleaseReplaced(Entry* chain);
  // Into index_bytes.
  void Count(Entry* entry);
  void AddKept(const Entry& entry);
  // From here on it may be let go there, once it is listed.
  void TrackOnL3(Entry* entry);
  static bool MayLeaveL3(const Entry& entry);
  static bool MayBeAbandoned(const Entry& entry);  // Is being written for nobody but the cache.
  uint64_t RemoveFromL3Locked(Stripe& stripe, Entry* entry)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(stripe.mutex);
  void AddLeaving(const LeavingBytes& bytes);
  void SubtractLeaving(const LeavingBytes& bytes);
  // Gives the entry's place on L3 back.
  void ReleaseL3(Entry* entry);
  void QuarantineLocked(Entry* entry);
  // Of a resident copy. One that L2 alone has leaves the store with it.
  static bool MayLeaveL2(const Entry& entry);
  // Lets a copy that may leave go, as `decision` says if it is on L3; returns the entry if that was
  // its end and the caller must Bury it outside the lock.
  Entry* EvictFromL2Locked(Stripe& stripe, Entry* entry, Decision decision)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(stripe.mutex);
  // Lets the copy in L2 go, which is resident and not pinned.
  void DropFromL2Locked(Entry* entry, Decision decision);
  // The same in L1, where it may have failed.
  static void DropFromL1Locked(L1Copy* l1);
  static std::unique_ptr<L1Copy> TakeFromL1Locked(L1Copy* l1);  // Its place is the caller's.
  void EvictFromL1Locked(L1Copy* l1, Decision decision);
  // The coldest copy there that nobody pins and `fits` takes, with its stripe locked for `take`.
  // False: none.
  bool FindToLeaveL1(Gpu* gpu, absl::FunctionRef<bool(const L1Copy&)> fits,
                     absl::FunctionRef<void(L1Copy*)> take);
  // It is no candidate for eviction any more, and not counted.
  static void ForgetL1(L1Copy* l1);
  static Lookup JoinL1Locked(L1Copy* l1, FillWaiter* waiter, bool has_stream);
  static bool Dead(const Entry& entry) {
    return !entry.listed && entry.pins == 0 && entry.leases == 0;
  }
  // Gives the extents back and deletes it. No lock held.
  void Bury(Entry* entry);

  // Constant.
  const Parts parts_;
  const uint32_t stripe_count_;
  const uint32_t shift_;
  const std::unique_ptr<Stripe[]> stripes_;

  // Relaxed sums for stats and limits; l3_bytes_leaving_ orders frees before the waiter's retry.
  std::atomic<uint64_t> dirty_bytes_ = 0;
  std::atomic<uint64_t> kept_bytes_ = 0;
  std::atomic<uint64_t> refused_count_ = 0;
  ClassCounts l2_counts_;
  ClassCounts l3_counts_;
  std::atomic<uint64_t> quarantined_ = 0;
  std::atomic<uint64_t> l3_bytes_leaving_ = 0;
  std::atomic<uint64_t> index_bytes_ = 0;
  std::atomic<uint64_t> index_bytes_leaving_ = 0;
};

}  // namespace cairn
