// The steps of tensors that change their place on L3.
//
// The tensor is written once more, by a later sequence, as if it were put again, and the index is
// told of that before the directory: so at every moment the index names a whole record, and nobody
// reads the new one before it does. Until it is known which of both that is, the old entry holds
// the new one like a write that it replaced: whoever removes or replaces the key meanwhile lets go
// of both, once the index has forgotten them.

#include <utility>

#include "src/base/check.h"
#include "src/directory.h"

namespace cairn {

bool Directory::MayBeRewritten(const Entry& entry) {
  return entry.listed && entry.pins == 0 && entry.leases == 0 && !entry.quarantined &&
         entry.first_l1() == nullptr && entry.replaced() == nullptr;
}

Entry* Directory::FindOnL3At(const Stripe& stripe, uint64_t key_hash, Extent from) {
  const auto found = stripe.entries.find(AnyOfHash{key_hash});
  if (found == stripe.entries.end()) return nullptr;
  Entry* const entry = *found;
  const bool settled = entry->l3 == CopyState::kResident && !entry->spilling && entry->indexed;
  // What is in a pack has no record of its own.
  return settled && entry->pack == nullptr && entry->l3_extent() == from ? entry : nullptr;
}

void Directory::ForEachRecordIn(absl::Span<const Extent> ranges,
                                absl::FunctionRef<void(const Entry&)> visitor) const {
  for (uint32_t i = 0; i < stripe_count_; ++i) {
    Stripe& stripe = stripes_[i];
    MutexLock lock(stripe.mutex);
    for (const Entry* const entry : stripe.entries) {
      if (entry->l3 != CopyState::kResident || entry->pack != nullptr) continue;
      const Extent extent = entry->l3_extent();
      for (const Extent& range : ranges) {
        if (Intersect(extent, range).bytes == 0) continue;
        visitor(*entry);
        break;
      }
    }
  }
}

bool Directory::CanRewrite(uint64_t key_hash, Extent from) const {
  const Stripe& stripe = StripeFor(key_hash);
  MutexLock lock(stripe.mutex);
  const Entry* const entry = FindOnL3At(stripe, key_hash, from);
  return entry != nullptr && MayBeRewritten(*entry);
}

Entry* Directory::BeginRewrite(uint64_t key_hash, Extent from, bool* in_l2) {
  const Stripe& stripe = StripeFor(key_hash);
  MutexLock lock(stripe.mutex);
  Entry* const entry = FindOnL3At(stripe, key_hash, from);
  if (entry == nullptr || !MayBeRewritten(*entry)) return nullptr;
  if (parts_.writes->Any(key_hash)) return nullptr;
  ++entry->pins;
  *in_l2 = entry->l2 == CopyState::kResident;
  return entry;
}

bool Directory::CommitRewrite(Entry* rewrite, Entry* from, IndexChange* change) {
  Stripe& stripe = StripeFor(from->hash());
  MutexLock lock(stripe.mutex);
  CAIRN_CHECK(rewrite->spilling && rewrite->l3 == CopyState::kFilling && from->pins > 0);
  --from->pins;
  const bool alone = MayBeRewritten(*from);
  ++from->pins;
  if (!alone) return false;
  rewrite->l3 = CopyState::kResident;
  rewrite->indexed = true;
  Count(rewrite);
  AddKept(*rewrite);
  ++rewrite->pins;
  from->MakeHot().replaced = rewrite;
  change->kind = IndexEdit::Kind::kPut;
  change->fingerprint_id = rewrite->fingerprint_id();
  change->key = rewrite->key();
  change->record = rewrite->Record();
  // As in BeginCommit.
  parts_.index_writer->Enqueue(change);
  return true;
}

bool Directory::EndRewrite(Entry* rewrite, Entry* from, const absl::Status& status) {
  bool moved = false;
  bool rewrite_dead = false;
  bool from_dead = false;
  {
    Stripe& stripe = StripeFor(from->hash());
    MutexLock lock(stripe.mutex);
    CAIRN_CHECK(rewrite->spilling && rewrite->pins > 0 && from->pins > 0);
    rewrite->spilling = false;
    if (!rewrite->indexed) rewrite->l3 = CopyState::kAbsent;
    // Where the index has failed it may name either: so both stay where they are until it has
    // confirmed something newer of the key.
    moved = rewrite->indexed && status.ok() && from->listed;
    if (moved) {
      CAIRN_CHECK(from->replaced() == rewrite);
      ListRewrite(stripe, from, rewrite);
      // Somebody has a lease on the old one since: it is for the tensor, which stays as long.
      if (from->leases == 0) {
        from->hot()->replaced = nullptr;
        --rewrite->pins;
      }
    }
    --rewrite->pins;
    --from->pins;
    from->CoolDown();
    rewrite->CoolDown();
    rewrite_dead = Dead(*rewrite);
    from_dead = Dead(*from);
  }
  if (rewrite_dead) Bury(rewrite);
  if (from_dead) Bury(from);
  parts_.room_made();
  return moved;
}

void Directory::ListRewrite(Stripe& stripe, Entry* from, Entry* rewrite) {
  Note(*rewrite, Decision::kMovedL3);
  for (L1Copy* l1 = from->first_l1(); l1 != nullptr; l1 = l1->next.get()) ForgetL1(l1);
  CAIRN_CHECK(stripe.entries.erase(from) == 1);
  from->listed = false;
  rewrite->listed = true;
  CAIRN_CHECK(stripe.entries.insert(rewrite).second);
  if (from->quarantined) quarantined_.fetch_sub(1, std::memory_order_relaxed);
  if (from->retention() == Retention::kCache) parts_.l3_eviction->Replace(from, rewrite);
  HotPart& hot = *from->hot();
  // But for who moves it.
  if (from->l2 == CopyState::kResident && from->pins_below_l1() == 1) {
    HotPart& successor = rewrite->MakeHot();
    successor.l2_extent = std::exchange(hot.l2_extent, {});
    successor.prefetched_by = std::exchange(hot.prefetched_by, nullptr);
    successor.prefetched = hot.prefetched;
    rewrite->l2 = CopyState::kResident;
    from->l2 = CopyState::kAbsent;
    parts_.l2_eviction->Replace(&hot, &successor);
    return;
  }
  EndPrefetch(from, PrefetchQueue::End::kUnused);
  parts_.l2_eviction->Forget(&hot);
  if (from->l2 == CopyState::kResident) l2_counts_.Remove(from->tensor_class(), from->bytes());
}

bool Directory::ClearFromL3(uint64_t key_hash, Extent from, Committed committed) {
  Stripe& stripe = StripeFor(key_hash);
  MutexLock lock(stripe.mutex);
  Entry* const entry = FindOnL3At(stripe, key_hash, from);
  if (entry == nullptr || !MayBeRewritten(*entry)) return false;
  if (entry->retention() == Retention::kKeep) return false;
  l3_counts_.Evicted(entry->tensor_class());
  Note(*entry, Decision::kClearedL3);
  RemoveFromL3Locked(stripe, entry);
  CAIRN_CHECK(JoinRemoval(stripe, HashedKey(*entry), committed));
  return true;
}

}  // namespace cairn
