// The steps of copies that change their place in L1 or L2.
//
// What is stored never changes, so a reader who comes while a copy is being made reads the old
// place and nobody waits for anybody: who moves it pins it like a reader, and gives up when it is
// not the only one at the end.

#include <utility>

#include "src/base/check.h"
#include "src/directory.h"

namespace cairn {

Pin Directory::FindMovable(const Stripe& stripe, const Gpu* gpu, uint64_t key_hash, Extent from) {
  const auto found = stripe.entries.find(AnyOfHash{key_hash});
  if (found == stripe.entries.end()) return {};
  Entry* const entry = *found;
  if (gpu == nullptr) {
    const bool movable = entry->l2 == CopyState::kResident && entry->hot()->l2_extent == from &&
                         entry->pins_below_l1() == 0;
    return movable ? Pin{entry} : Pin{};
  }
  L1Copy* const l1 = entry->l1(gpu);
  const bool movable =
      l1 != nullptr && l1->resident && l1->extent == from && l1->pins == 0 && !l1->readers.any();
  return movable ? Pin{entry, l1} : Pin{};
}

bool Directory::CanRelocate(const Gpu* gpu, uint64_t key_hash, Extent from) const {
  const Stripe& stripe = StripeFor(key_hash);
  MutexLock lock(stripe.mutex);
  return FindMovable(stripe, gpu, key_hash, from).entry != nullptr;
}

Pin Directory::BeginRelocation(const Gpu* gpu, uint64_t key_hash, Extent from, bool* may_drop) {
  const Stripe& stripe = StripeFor(key_hash);
  MutexLock lock(stripe.mutex);
  const Pin pin = FindMovable(stripe, gpu, key_hash, from);
  if (pin.entry == nullptr) return {};
  ++pin.entry->pins;
  if (pin.l1 != nullptr) ++pin.l1->pins;
  *may_drop = pin.l1 != nullptr || pin.entry->l3 == CopyState::kResident;
  return pin;
}

bool Directory::EndRelocation(Pin pin, std::optional<Extent> target) {
  const auto [entry, l1] = pin;
  GpuTier* const gpu_tier = l1 == nullptr ? nullptr : l1->gpu->l1.get();
  bool left = false;
  bool dead = false;
  {
    Stripe& stripe = StripeFor(entry->hash());
    MutexLock lock(stripe.mutex);
    CAIRN_CHECK(entry->pins > 0);
    --entry->pins;
    left = l1 != nullptr ? LeavePlaceInL1(l1, target) : LeavePlaceInL2(entry, target);
    dead = Dead(*entry);
  }
  // The one of both that is not used.
  if (target.has_value()) {
    gpu_tier != nullptr ? gpu_tier->Release(*target) : parts_.l2->Release(*target);
  }
  if (dead) Bury(entry);
  parts_.room_made();
  return left;
}

bool Directory::LeavePlaceInL1(L1Copy* l1, std::optional<Extent>& target) {
  CAIRN_CHECK(l1->resident && l1->pins > 0);
  if (--l1->pins > 0 || l1->readers.any()) return false;
  if (target.has_value()) {
    l1->gpu->l1->owners().Set(*target, l1->entry->hash());
    std::swap(l1->extent, *target);
    Note(*l1->entry, Decision::kMovedL1);
    return true;
  }
  if (!l1->entry->listed) return false;
  EvictFromL1Locked(l1, Decision::kClearedL1);
  return true;
}

bool Directory::LeavePlaceInL2(Entry* entry, std::optional<Extent>& target) {
  CAIRN_CHECK(entry->l2 == CopyState::kResident);
  if (entry->pins_below_l1() > 0) return false;
  if (target.has_value()) {
    parts_.l2->owners().Set(*target, entry->hash());
    std::swap(entry->hot()->l2_extent, *target);
    Note(*entry, Decision::kMovedL2);
    return true;
  }
  if (!entry->listed || entry->l3 != CopyState::kResident) return false;
  l2_counts_.Evicted(entry->tensor_class());
  DropFromL2Locked(entry, Decision::kClearedL2);
  return true;
}

}  // namespace cairn
