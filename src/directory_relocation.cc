// The steps of copies that change their place in L2.
//
// What is stored never changes, so a reader who comes while a copy is being made reads the old
// place and nobody waits for anybody: who moves it pins it like a reader, and gives up when it is
// not the only one at the end.

#include <utility>

#include "src/base/check.h"
#include "src/directory.h"

namespace cairn {

Entry* Directory::FindMovable(const Stripe& stripe, uint64_t key_hash, Extent from) {
  const auto found = stripe.entries.find(AnyOfHash{key_hash});
  if (found == stripe.entries.end()) return nullptr;
  Entry* const entry = *found;
  const bool movable = entry->l2 == CopyState::kResident && entry->hot()->l2_extent == from &&
                       entry->pins_below_l1() == 0;
  return movable ? entry : nullptr;
}

bool Directory::CanRelocate(uint64_t key_hash, Extent from) const {
  const Stripe& stripe = StripeFor(key_hash);
  MutexLock lock(stripe.mutex);
  return FindMovable(stripe, key_hash, from) != nullptr;
}

Entry* Directory::BeginRelocation(uint64_t key_hash, Extent from, bool* may_drop) {
  const Stripe& stripe = StripeFor(key_hash);
  MutexLock lock(stripe.mutex);
  Entry* const entry = FindMovable(stripe, key_hash, from);
  if (entry == nullptr) return nullptr;
  ++entry->pins;
  *may_drop = entry->l3 == CopyState::kResident;
  return entry;
}

bool Directory::EndRelocation(Entry* entry, std::optional<Extent> target) {
  Extent unused = target.value_or(Extent{});
  bool left = false;
  bool dead = false;
  {
    const uint64_t hash = entry->hash();
    Stripe& stripe = StripeFor(hash);
    MutexLock lock(stripe.mutex);
    CAIRN_CHECK(entry->l2 == CopyState::kResident && entry->pins > 0);
    --entry->pins;
    if (entry->pins_below_l1() == 0) {
      if (target.has_value()) {
        unused = std::exchange(entry->hot()->l2_extent, *target);
        parts_.l2->SetOwner(*target, hash);
        Note(*entry, Decision::kMovedL2);
        left = true;
      } else if (entry->listed && entry->l3 == CopyState::kResident) {
        l2_counts_.Evicted(entry->tensor_class());
        DropFromL2Locked(entry, Decision::kClearedL2);
        left = true;
      }
    }
    dead = Dead(*entry);
  }
  if (unused.bytes > 0) parts_.l2->Release(unused);
  if (dead) Bury(entry);
  parts_.room_made();
  return left;
}

}  // namespace cairn
