// The steps of copies in L1: they come from L2, are always clean, and leave by being forgotten.

#include <algorithm>
#include <memory>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "src/base/check.h"
#include "src/base/strings.h"
#include "src/directory.h"

namespace cairn {
namespace {

// As in directory_eviction.cc.
constexpr uint64_t kEvictionTriesMax = 256;

}  // namespace

Directory::Found Directory::JoinL1Locked(Entry* entry, FillWaiter* waiter, bool has_stream) {
  L1Copy& l1 = *entry->l1();
  if (l1.failed) return Found::kQuarantined;
  if (l1.resident || (has_stream && l1.started)) {
    ++entry->pins;
    ++l1.pins;
    return l1.resident ? Found::kPinned : Found::kInFlight;
  }
  if (waiter != nullptr) waiter->Link(l1.waiters);
  return Found::kJoined;
}

Directory::Lookup Directory::AcquireInL1(const HashedKey& key, int64_t now_unix_ms,
                                         FillWaiter* waiter, bool has_stream) {
  Stripe& stripe = StripeFor(key.hash);
  MutexLock lock(stripe.mutex);
  Entry* const entry = FindReadable(stripe, key, now_unix_ms);
  if (entry == nullptr || entry->l1() == nullptr) return {};
  const Found found = JoinL1Locked(entry, waiter, has_stream);
  if (found == Found::kQuarantined) return {};
  // Not its copy in L2: while this one is here, that one is of less use than its neighbours.
  parts_.l1_eviction->Touch(entry->l1());
  parts_.l3_eviction->Touch(entry);
  TellRefusedUsed(*entry);
  TellAsked(entry);
  return {found, found == Found::kJoined ? nullptr : entry, entry->bytes()};
}

Directory::Found Directory::BeginLift(Entry* entry, Extent target, FillWaiter* waiter,
                                      bool has_stream) {
  Stripe& stripe = StripeFor(entry->hash());
  MutexLock lock(stripe.mutex);
  CAIRN_CHECK(entry->l2 == CopyState::kResident && entry->pins_below_l1() > 0);
  if (entry->l1() != nullptr) return JoinL1Locked(entry, waiter, has_stream);
  entry->hot()->l1 = std::make_unique<L1Copy>(entry, target);
  ++entry->pins;
  L1Copy& l1 = *entry->l1();
  if (has_stream) {
    ++entry->pins;
    ++l1.pins;
  } else if (waiter != nullptr) {
    waiter->Link(l1.waiters);
  }
  return Found::kNeedsFill;
}

void Directory::LiftStarted(Entry* entry) {
  Stripe& stripe = StripeFor(entry->hash());
  MutexLock lock(stripe.mutex);
  CAIRN_CHECK(entry->l1() != nullptr && !entry->l1()->resident);
  entry->l1()->started = true;
}

void Directory::EndLift(Entry* entry, const absl::Status& status) {
  FillWaiter* waiters = nullptr;
  bool dead = false;
  {
    Stripe& stripe = StripeFor(entry->hash());
    MutexLock lock(stripe.mutex);
    L1Copy& l1 = *entry->l1();
    CAIRN_CHECK(!l1.resident && !l1.failed && entry->pins_below_l1() > 0);
    waiters = std::exchange(l1.waiters, nullptr);
    if (status.ok()) {
      l1.resident = true;
      Note(*entry, Decision::kLifted);
      for (FillWaiter* waiter = waiters; waiter != nullptr; waiter = waiter->next) {
        ++entry->pins;
        ++l1.pins;
      }
      if (entry->listed) {
        l1_count_.fetch_add(1, std::memory_order_relaxed);
        parts_.l1_eviction->Track(&l1);
      }
    } else {
      l1.failed = true;
      if (l1.pins == 0) DropFromL1Locked(entry);
    }
    // As in EndFill.
    --entry->pins;
    dead = Dead(*entry);
  }
  while (waiters != nullptr) {
    FillWaiter* const next = waiters->next;
    waiters->OnFilled(status, status.ok() ? entry : nullptr);
    waiters = next;
  }
  if (dead) Bury(entry);
  parts_.room_made();
}

void Directory::UnpinL1(Entry* entry) {
  Stripe& stripe = StripeFor(entry->hash());
  bool dead = false;
  {
    MutexLock lock(stripe.mutex);
    CAIRN_CHECK(entry->pins > 0 && entry->l1()->pins > 0);
    --entry->pins;
    if (--entry->l1()->pins == 0 && entry->l1()->failed) DropFromL1Locked(entry);
    dead = Dead(*entry);
  }
  if (dead) Bury(entry);
  parts_.room_made();
}

uint64_t Directory::EvictFromL1() {
  // Each once: those in use go to the warm end.
  const uint64_t tries = std::min(kEvictionTriesMax, parts_.l1_eviction->size());
  ClassPools::PickOptions options;
  for (uint64_t i = 0; i < tries; ++i) {
    const std::optional<TierEviction::Candidate> candidate = parts_.l1_eviction->Pick(options);
    if (!candidate.has_value()) return 0;
    Stripe& stripe = StripeFor(candidate->hash);
    MutexLock lock(stripe.mutex);
    Entry* const entry = FindCandidate(stripe, *candidate);
    if (entry == nullptr || entry->l1() == nullptr || !entry->l1()->resident) continue;
    if (entry->l1()->pins > 0) {
      parts_.l1_eviction->Keep(entry->l1());
      continue;
    }
    const uint64_t bytes = entry->l1()->extent.bytes;
    Note(*entry, Decision::kEvictedL1);
    DropFromL1Locked(entry);
    return bytes;
  }
  return 0;
}

absl::Status Directory::DropFromL1(const HashedKey& key) {
  Stripe& stripe = StripeFor(key.hash);
  MutexLock lock(stripe.mutex);
  Entry* const entry = Find(stripe, key);
  if (entry == nullptr) {
    return absl::NotFoundError(absl::StrCat("no tensor ", PrintableKey(key.key)));
  }
  const L1Copy* const l1 = entry->l1();
  if (l1 == nullptr) return absl::OkStatus();
  if (!l1->resident || l1->pins > 0) {
    return absl::ResourceExhaustedError(absl::StrCat(
        "tensor ", PrintableKey(key.key),
        l1->resident ? " is pinned in L1" : " is on its way to L1", ", by ", l1->pins, " handles"));
  }
  Note(*entry, Decision::kDroppedL1);
  DropFromL1Locked(entry);
  return absl::OkStatus();
}

void Directory::DropFromL1Locked(Entry* entry) {
  const L1Copy& l1 = *entry->l1();
  CAIRN_CHECK(l1.pins == 0 && l1.waiters == nullptr && (l1.resident || l1.failed));
  ForgetL1(entry);
  parts_.l1->Release(l1.extent);
  entry->hot()->l1.reset();
  entry->CoolDown();
}

void Directory::ForgetL1(Entry* entry) {
  L1Copy* const l1 = entry->l1();
  if (l1 == nullptr) return;
  parts_.l1_eviction->Forget(l1);
  if (l1->resident && entry->listed) l1_count_.fetch_sub(1, std::memory_order_relaxed);
}

}  // namespace cairn
