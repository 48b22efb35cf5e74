// The steps of copies that leave for lack of room, or on request, and are on a tier below.

#include <algorithm>
#include <array>
#include <optional>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "src/base/check.h"
#include "src/base/strings.h"
#include "src/directory.h"

namespace cairn {
namespace {

// One search for what may leave a tier: those in use go to the warm end of their class, and when
// all of a class are, the next class is asked.
class Search {
 public:
  Search(TierEviction* tier, const ClassCounts& counts, bool of_any)
      : tier_(tier),
        tries_of_(tier->sizes()),
        options_{.of_any = of_any, .bytes = counts.all_bytes()} {
    for (uint64_t& tries : tries_of_) {
      tries = std::min(tries, kEvictionTriesMax);
      tries_ += tries;
    }
  }

  std::optional<TierEviction::Candidate> Next() {
    if (tries_ == 0) return std::nullopt;
    --tries_;
    return tier_->Pick(options_);
  }
  void Keep(EvictionNode* node, TensorClass tensor_class) {
    tier_->Keep(node);
    const auto number = static_cast<size_t>(tensor_class);
    if (tries_of_[number] > 0) --tries_of_[number];
    if (tries_of_[number] == 0) options_.without |= uint32_t{1} << number;
  }
  // The last is no candidate any more, and was no try.
  void PassOver() { ++tries_; }

 private:
  TierEviction* const tier_;
  std::array<uint64_t, kTensorClasses> tries_of_;
  uint64_t tries_ = 0;
  ClassPools::PickOptions options_;
};

}  // namespace

uint64_t Directory::EvictFromL2(bool of_any) {
  Search search(parts_.l2_eviction, l2_counts_, of_any);
  while (true) {
    const std::optional<TierEviction::Candidate> candidate = search.Next();
    if (!candidate.has_value()) return 0;
    Stripe& stripe = StripeFor(candidate->hash);
    Entry* dead = nullptr;
    uint64_t bytes = 0;
    {
      MutexLock lock(stripe.mutex);
      Entry* entry = FindCandidate(stripe, *candidate);
      if (entry == nullptr || entry->l2 != CopyState::kResident) continue;
      if (!MayLeaveL2(*entry)) {
        search.Keep(entry->hot(), entry->tensor_class());
        continue;
      }
      bytes = entry->hot()->l2_extent.bytes;
      dead = EvictFromL2Locked(stripe, entry, Decision::kEvictedL2);
    }
    if (dead != nullptr) Bury(dead);
    return bytes;
  }
}

bool Directory::MayLeaveL2(const Entry& entry) {
  if (entry.l3 == CopyState::kResident) return entry.pins_below_l1() == 0;
  return entry.pins == 0 && entry.leases == 0;
}

Entry* Directory::EvictFromL2Locked(Stripe& stripe, Entry* entry, Decision decision) {
  l2_counts_.Evicted(entry->tensor_class());
  if (entry->l3 == CopyState::kResident) {
    DropFromL2Locked(entry, decision);
    return nullptr;
  }
  Note(*entry, Decision::kLost);
  if (entry->l3 == CopyState::kFilling) {
    RemoveFromL3Locked(stripe, entry);
    return nullptr;
  }
  return RemoveLocked(stripe, entry) ? nullptr : entry;
}

void Directory::ForEachInL2(absl::FunctionRef<void(Extent, bool may_leave)> visitor) const {
  for (uint32_t i = 0; i < stripe_count_; ++i) {
    Stripe& stripe = stripes_[i];
    MutexLock lock(stripe.mutex);
    for (const Entry* const entry : stripe.entries) {
      if (entry->l2 != CopyState::kResident) continue;
      visitor(entry->hot()->l2_extent, MayLeaveL2(*entry));
    }
  }
}

uint64_t Directory::EvictFromL2In(absl::FunctionRef<bool(Extent)> place,
                                  absl::FunctionRef<bool(Extent)> place_short) {
  uint64_t evicted = 0;
  for (uint32_t i = 0; i < stripe_count_; ++i) {
    Stripe& stripe = stripes_[i];
    std::vector<Entry*> dead;
    {
      MutexLock lock(stripe.mutex);
      std::vector<Entry*> leaving;  // Who goes may leave the table that is walked here.
      for (Entry* const entry : stripe.entries) {
        if (entry->l2 != CopyState::kResident) continue;
        const Extent extent = entry->hot()->l2_extent;
        if (MayLeaveL2(*entry) ? place(extent) : MayBeAbandoned(*entry) && place_short(extent)) {
          leaving.push_back(entry);
        }
      }
      for (Entry* const entry : leaving) {
        Entry* const ended = EvictFromL2Locked(stripe, entry, Decision::kPressedL2);
        if (ended != nullptr) dead.push_back(ended);
      }
      evicted += leaving.size();
    }
    for (Entry* const entry : dead) Bury(entry);
  }
  return evicted;
}

// What has just come may be what a policy lets go first: it leaves though it is still being
// written, unless somebody waits until it is, or it is to take another's place in the index.
bool Directory::MayLeaveL3(const Entry& entry) {
  if (entry.leases > 0) return false;
  if (!entry.spilling) return entry.pins == 0;
  return entry.pins == 1 && entry.hot()->spill_waiters == nullptr && entry.replaced() == nullptr;
}

bool Directory::MayBeAbandoned(const Entry& entry) {
  return entry.l3 == CopyState::kFilling && entry.retention() == Retention::kCache &&
         MayLeaveL3(entry);
}

uint64_t Directory::RemoveFromL3Locked(Stripe& stripe, Entry* entry) {
  const bool written = entry->l3 == CopyState::kResident;
  const LeavingBytes bytes = entry->leaving_bytes();
  const uint64_t hash = entry->hash();
  CAIRN_CHECK(RemoveLocked(stripe, entry) == written);
  if (!written) {
    entry->hot()->abandoned.store(true, std::memory_order_relaxed);
    AddLeaving(bytes);
  }
  parts_.admission->Left(hash);
  return bytes.l3;
}

uint64_t Directory::EvictFromL3(bool of_any) {
  Search search(parts_.l3_eviction, l3_counts_, of_any);
  while (true) {
    const std::optional<TierEviction::Candidate> candidate = search.Next();
    if (!candidate.has_value()) return 0;
    Stripe& stripe = StripeFor(candidate->hash);
    MutexLock lock(stripe.mutex);
    Entry* entry = FindCandidate(stripe, *candidate);
    if (entry == nullptr || entry->l3 == CopyState::kAbsent) continue;
    const bool written = entry->l3 == CopyState::kResident;
    // Its place would be no use to anybody: it stays, and is no candidate any more.
    if (written && !parts_.l3->InUse(entry->l3_extent().offset)) {
      search.PassOver();
      continue;
    }
    if (!MayLeaveL3(*entry)) {
      search.Keep(entry, entry->tensor_class());
      continue;
    }
    l3_counts_.Evicted(entry->tensor_class());
    Note(*entry, Decision::kEvictedL3);
    return RemoveFromL3Locked(stripe, entry);
  }
}

absl::Status Directory::DropFromL2(const HashedKey& key) {
  Stripe& stripe = StripeFor(key.hash);
  MutexLock lock(stripe.mutex);
  Entry* entry = Find(stripe, key);
  if (entry == nullptr) {
    return absl::NotFoundError(absl::StrCat("no tensor ", PrintableKey(key.key)));
  }
  if (entry->l2 == CopyState::kAbsent) return absl::OkStatus();
  if (entry->pins_below_l1() > 0 || entry->l3 != CopyState::kResident) {
    return absl::ResourceExhaustedError(absl::StrCat(
        "tensor ", PrintableKey(key.key), " is pinned ", entry->pins_below_l1(), " times"));
  }
  DropFromL2Locked(entry, Decision::kDroppedL2);
  return absl::OkStatus();
}

void Directory::DropFromL2Locked(Entry* entry, Decision decision) {
  CAIRN_CHECK(entry->l2 == CopyState::kResident && entry->l3 == CopyState::kResident);
  CAIRN_CHECK(entry->pins_below_l1() == 0);
  Note(*entry, decision);
  EndPrefetch(entry, PrefetchQueue::End::kUnused);
  parts_.l2_eviction->Forget(entry->hot());
  l2_counts_.Remove(entry->tensor_class(), entry->bytes());
  entry->l2 = CopyState::kAbsent;
  // Here and not later: a pinned reader of this stripe may take the copy's place at once.
  parts_.l2->Release(std::exchange(entry->hot()->l2_extent, {}));
  entry->CoolDown();
}

}  // namespace cairn
