// The steps of copies that come: listing, Fill, Spill. What leaves is in directory_removal.cc and
// directory_eviction.cc, what only looks in directory.cc.

#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "src/base/check.h"
#include "src/base/clock.h"
#include "src/base/strings.h"
#include "src/directory.h"

namespace cairn {
namespace {

void WakeFillWaiters(FillWaiter* waiter, const absl::Status& status, Entry* entry) {
  while (waiter != nullptr) {
    FillWaiter* next = waiter->next;
    waiter->OnFilled(status, {entry});
    waiter = next;
  }
}

void WakeSpillWaiters(SpillWaiter* waiter, const absl::Status& status) {
  while (waiter != nullptr) {
    SpillWaiter* next = waiter->next;
    waiter->OnSpilled(status);
    waiter = next;
  }
}

constexpr size_t kFetchAhead = 16;

}  // namespace

// ---- Coming ----

void Directory::List(std::unique_ptr<Entry> owned) {
  Entry* entry = owned.release();
  CAIRN_CHECK(!entry->listed && entry->pins == 1 && entry->l2 == CopyState::kResident);
  CAIRN_CHECK((entry->l3 == CopyState::kFilling) == entry->spilling);
  CAIRN_CHECK(entry->spilling != entry->refused);
  Entry* dead = nullptr;
  {
    Stripe& stripe = StripeFor(entry->hash());
    MutexLock lock(stripe.mutex);
    parts_.l2->owners().Set(entry->hot()->l2_extent, entry->hash());
    dead = ListLocked(stripe, entry);
    Note(*entry, Decision::kPut);
    if (entry->spilling) {
      entry->hot()->dirty = true;
      dirty_bytes_.fetch_add(entry->hot()->l2_extent.bytes, std::memory_order_relaxed);
      AddKept(*entry);
      TrackOnL3(entry);
    } else {
      entry->hot()->write.End();
      refused_count_.fetch_add(1, std::memory_order_relaxed);
      parts_.l2_eviction->Track(entry->hot());
      if (Entry* replaced = entry->TakeReplaced()) {
        EnqueueRemoval(stripe, nullptr, replaced);
      }
    }
  }
  if (dead != nullptr) Bury(dead);
}

void Directory::ListRecovered(absl::Span<Entry* const> entries) {
  // By stripe: a stripe's table is then filled in one go, at its final size, while it is in the
  // cache.
  std::vector<std::vector<HashedEntry>> by_stripe(stripe_count_);
  for (auto& of_stripe : by_stripe) of_stripe.reserve(entries.size() / stripe_count_ * 9 / 8);
  uint64_t index_bytes = 0;
  for (size_t i = 0; i < entries.size(); ++i) {
    // They were made in another order, so each would be waited for.
    if (i + kFetchAhead < entries.size()) FetchEarly(entries[i + kFetchAhead]);
    Entry* const entry = entries[i];
    CAIRN_CHECK(entry->l3 == CopyState::kAbsent && entry->hot() == nullptr);
    entry->l3 = CopyState::kResident;
    entry->indexed = entry->listed = entry->counted = true;
    index_bytes += entry->index_bytes();
    if (entry->retention() == Retention::kKeep) {
      AddKept(*entry);
      if (entry->pack != nullptr && !entry->pack->kept) KeepPack(entry->pack);
    }
    const uint64_t hash = entry->hash();
    by_stripe[hash >> shift_].push_back({entry, hash});
  }
  index_bytes_.fetch_add(index_bytes, std::memory_order_relaxed);
  for (const Entry* const entry : entries) l3_counts_.Add(entry->tensor_class(), entry->bytes());
  for (uint32_t i = 0; i < stripe_count_; ++i) {
    Stripe& stripe = stripes_[i];
    MutexLock lock(stripe.mutex);
    CAIRN_CHECK(stripe.entries.empty());
    stripe.entries.reserve(by_stripe[i].size());
    for (const HashedEntry& one : by_stripe[i]) {
      stripe.entries.lazy_emplace(one, [&one](const auto& make) { make(one.entry); });
    }
    CAIRN_CHECK(stripe.entries.size() == by_stripe[i].size());
    by_stripe[i] = {};
  }
}

void Directory::RestoreEviction(const SnapshotPiece& piece) {
  std::vector<EvictionNode*> nodes;
  if (piece.kind == SnapshotPiece::Kind::kCopies) {
    nodes.reserve(piece.words.size());
    // They lie all over memory: all are asked for before the first is waited for, the slots of the
    // table and then what these point to.
    for (const uint64_t hash : piece.words) {
      Stripe& stripe = StripeFor(hash);
      MutexLock lock(stripe.mutex);
      stripe.entries.prefetch(AnyOfHash{hash});
    }
    for (const uint64_t hash : piece.words) {
      Stripe& stripe = StripeFor(hash);
      MutexLock lock(stripe.mutex);
      stripe.entries.find(FetchOfHash{hash});
    }
    for (const uint64_t hash : piece.words) {
      Stripe& stripe = StripeFor(hash);
      MutexLock lock(stripe.mutex);
      const auto found = stripe.entries.find(AnyOfHash{hash});
      const bool evictable =
          found != stripe.entries.end() && (*found)->retention() == Retention::kCache;
      nodes.push_back(evictable ? *found : nullptr);
    }
  }
  parts_.l3_eviction->Restore(piece, nodes);
}

void Directory::TrackRecovered(absl::Span<Entry* const> entries) {
  for (size_t i = 0; i < entries.size(); ++i) {
    if (i + kFetchAhead < entries.size()) FetchEarly(entries[i + kFetchAhead]);
    Entry* const entry = entries[i];
    if (entry->tracked() || entry->retention() == Retention::kKeep) continue;
    parts_.l3_eviction->Track(entry);
  }
}

// ---- Fill ----

Entry* Directory::BeginFill(const HashedKey& key, Extent target, FillWaiter* waiter,
                            PrefetchQueue* prefetch) {
  Stripe& stripe = StripeFor(key.hash);
  MutexLock lock(stripe.mutex);
  Entry* entry = Find(stripe, key);
  if (entry == nullptr || entry->l2 != CopyState::kAbsent || entry->quarantined ||
      entry->l3 != CopyState::kResident || target.bytes < entry->bytes()) {
    return nullptr;
  }
  entry->l2 = CopyState::kFilling;
  HotPart& hot = entry->MakeHot();
  hot.l2_extent = target;
  hot.prefetched_by = prefetch;
  if (prefetch != nullptr) hot.prefetched = prefetch->Began(entry->bytes(), SteadyNow());
  ++entry->pins;
  if (waiter != nullptr) waiter->Link(hot.fill_waiters);
  return entry;
}

bool Directory::SetRaisable(Entry* entry, RaisableFill* fill) {
  Stripe& stripe = StripeFor(entry->hash());
  MutexLock lock(stripe.mutex);
  CAIRN_CHECK(entry->l2 == CopyState::kFilling);
  entry->hot()->raisable = fill;
  return entry->hot()->wanted;
}

void Directory::EndFill(Entry* entry, const absl::Status& status) {
  FillWaiter* waiters = nullptr;
  Extent unused;
  bool dead = false;
  {
    Stripe& stripe = StripeFor(entry->hash());
    MutexLock lock(stripe.mutex);
    CAIRN_CHECK(entry->l2 == CopyState::kFilling && entry->pins > 0);
    waiters = std::exchange(entry->hot()->fill_waiters, nullptr);
    entry->hot()->raisable = nullptr;
    entry->hot()->wanted = false;
    if (status.ok()) {
      const bool ahead = entry->hot()->prefetched_by != nullptr;
      Note(*entry, ahead ? Decision::kPrefetched : Decision::kLoaded);
      entry->l2 = CopyState::kResident;
      parts_.l2->owners().Set(entry->hot()->l2_extent, entry->hash());
      for (FillWaiter* waiter = waiters; waiter != nullptr; waiter = waiter->next) ++entry->pins;
      if (entry->listed) {
        l2_counts_.Add(entry->tensor_class(), entry->bytes());
        parts_.l2_eviction->Track(entry->hot());
      }
    } else {
      EndPrefetch(entry, PrefetchQueue::End::kFailed);
      entry->l2 = CopyState::kAbsent;
      unused = std::exchange(entry->hot()->l2_extent, {});
      entry->CoolDown();
      if (absl::IsDataLoss(status)) {
        QuarantineLocked(entry);
      } else {
        Note(*entry, Decision::kLoadFailed);
      }
    }
    // With the lock still held: who is woken may find the entry unpinned by this fill.
    --entry->pins;
    dead = Dead(*entry);
  }
  if (unused.bytes > 0) parts_.l2->Release(unused);
  WakeFillWaiters(waiters, status, status.ok() ? entry : nullptr);
  if (dead) Bury(entry);
  parts_.room_made();
}

void Directory::QuarantineLocked(Entry* entry) {
  if (entry->quarantined) return;
  entry->quarantined = true;
  Note(*entry, Decision::kDamaged);
  if (entry->listed) quarantined_.fetch_add(1, std::memory_order_relaxed);
}

void Directory::Quarantine(Entry* entry) {
  Stripe& stripe = StripeFor(entry->hash());
  MutexLock lock(stripe.mutex);
  QuarantineLocked(entry);
}

// ---- Spill ----

void Directory::TrackOnL3(Entry* entry) {
  if (entry->retention() == Retention::kCache) parts_.l3_eviction->Track(entry);
}

void Directory::BeginCommit(Entry* entry, IndexChange* change, bool list) {
  Entry* dead = nullptr;
  {
    Stripe& stripe = StripeFor(entry->hash());
    MutexLock lock(stripe.mutex);
    CAIRN_CHECK(entry->spilling && entry->l3 == CopyState::kFilling && entry->pins > 0);
    if (list) {
      if (!YieldToNewer(stripe, entry)) dead = ListLocked(stripe, entry);
      if (entry->listed) Note(*entry, Decision::kPutFrom);
      AddKept(*entry);
      if (entry->listed) TrackOnL3(entry);
    }
    // The newest write of the key that the index knows of, or this one if it knows of none since.
    Entry* named = Find(stripe, HashedKey(*entry));
    while (named != nullptr && named != entry && !named->indexed) named = named->replaced();
    if (named == entry) {
      entry->l3 = CopyState::kResident;
      if (entry->listed) l3_counts_.Add(entry->tensor_class(), entry->bytes());
      entry->indexed = true;
    }
    // Removed meanwhile: the index is told once more, as what it was told may have failed, or not
    // be flushed as this one asks.
    change->kind = named == nullptr ? IndexEdit::Kind::kDelete : IndexEdit::Kind::kPut;
    change->fingerprint_id = entry->fingerprint_id();
    change->key = entry->key();
    if (named != nullptr) change->record = named->Record();
    // Under the lock, so that the order of edits in the index is that of the directory.
    parts_.index_writer->Enqueue(change);
  }
  if (dead != nullptr) Bury(dead);
}

void Directory::EndSpill(Entry* entry, const absl::Status& status) {
  SpillWaiter* waiters = nullptr;
  Entry* replaced = nullptr;
  Removal* voided = nullptr;
  bool dead = false;
  std::optional<LeavingBytes> left;
  {
    Stripe& stripe = StripeFor(entry->hash());
    MutexLock lock(stripe.mutex);
    CAIRN_CHECK(entry->spilling && entry->pins > 0);
    HotPart* const hot = entry->hot();
    entry->spilling = false;
    hot->write.End();
    waiters = std::exchange(hot->spill_waiters, nullptr);
    const bool in_l2 = entry->l2 == CopyState::kResident;
    if (std::exchange(hot->dirty, false)) {
      dirty_bytes_.fetch_sub(hot->l2_extent.bytes, std::memory_order_relaxed);
    }
    // Of one that was erased, replaced or evicted meanwhile the story is over.
    if (entry->listed && !status.ok()) Note(*entry, Decision::kWriteFailed);
    if (hot->abandoned.load(std::memory_order_relaxed)) left = entry->leaving_bytes();
    if (status.ok() && entry->indexed) {
      if (entry->listed) Note(*entry, Decision::kWritten);
      replaced = std::exchange(hot->replaced, nullptr);
      voided = TakeVoidRemoval(stripe, *entry);
    } else {
      parts_.l3_eviction->Forget(entry);
      if (entry->l3 == CopyState::kResident && entry->listed) {
        l3_counts_.Remove(entry->tensor_class(), entry->bytes());
      }
      entry->l3 = CopyState::kAbsent;
      // A commit that failed may have reached the log all the same: then the extent is taken until
      // the index has confirmed something newer.
      if (!entry->indexed && in_l2) ReleaseL3(entry);
    }
    if (entry->listed && in_l2 && (status.ok() || entry->retention() == Retention::kCache)) {
      parts_.l2_eviction->Track(entry->hot());
    }
    if (entry->used) parts_.l2_eviction->Touch(hot);
    entry->used = false;
    // Nowhere left: the tensor is gone. What it replaced must not come back in its stead.
    if (entry->listed && !in_l2 && entry->l3 == CopyState::kAbsent) {
      RemoveLocked(stripe, entry);
    } else if (!status.ok() && entry->listed && hot->replaced != nullptr) {
      EnqueueRemoval(stripe, nullptr, std::exchange(hot->replaced, nullptr));
    }
    entry->CoolDown();
    // As in EndFill.
    --entry->pins;
    dead = Dead(*entry);
  }
  if (replaced != nullptr) ReleaseReplaced(replaced);
  if (voided != nullptr) ReleaseRemoval(voided);
  if (dead) Bury(entry);
  if (left.has_value()) SubtractLeaving(*left);
  WakeSpillWaiters(waiters, status);
  parts_.room_made();
}

std::optional<Directory::Refused> Directory::FindRefused(const HashedKey& key) const {
  Stripe& stripe = StripeFor(key.hash);
  MutexLock lock(stripe.mutex);
  const Entry* const entry = Find(stripe, key);
  if (entry == nullptr || !entry->refused) return std::nullopt;
  return Refused{entry->bytes(), entry->Record().extent_bytes()};
}

Entry* Directory::BeginLateSpill(const HashedKey& key, Extent target, SpillTracker& tracker) {
  Stripe& stripe = StripeFor(key.hash);
  MutexLock lock(stripe.mutex);
  Entry* const entry = Find(stripe, key);
  if (entry == nullptr || !entry->refused || entry->Record().extent_bytes() != target.bytes) {
    return nullptr;
  }
  CAIRN_CHECK(entry->l2 == CopyState::kResident && entry->l3 == CopyState::kAbsent);
  ++entry->pins;
  entry->refused = false;
  refused_count_.fetch_sub(1, std::memory_order_relaxed);
  entry->spilling = true;
  entry->l3 = CopyState::kFilling;
  entry->set_l3_extent(target);
  entry->hot()->write = parts_.writes->Begin(key.hash);
  entry->hot()->dirty = true;
  dirty_bytes_.fetch_add(entry->hot()->l2_extent.bytes, std::memory_order_relaxed);
  TrackOnL3(entry);
  tracker.Begin(entry->sequence());
  return entry;
}

bool Directory::JoinSpill(const HashedKey& key, SpillWaiter* waiter, absl::Status* outcome) {
  Stripe& stripe = StripeFor(key.hash);
  MutexLock lock(stripe.mutex);
  Entry* entry = Find(stripe, key);
  if (entry == nullptr) {
    *outcome = absl::NotFoundError(absl::StrCat("no tensor ", PrintableKey(key.key)));
    return false;
  }
  if (entry->spilling) {
    waiter->next = std::exchange(entry->hot()->spill_waiters, waiter);
    return true;
  }
  *outcome = entry->l3 == CopyState::kResident
                 ? absl::OkStatus()
                 : absl::UnavailableError(absl::StrCat("tensor ", PrintableKey(key.key),
                                                       " could not be written to L3"));
  return false;
}

}  // namespace cairn
