// The steps of copies in the L1 of each GPU: they come from L2, are always clean, and leave by
// being forgotten.

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

// By so much of what is asked for a place that is taken over may be larger.
constexpr uint64_t kTakenOverMore = 8;

}  // namespace

Directory::Lookup Directory::JoinL1Locked(L1Copy* l1, FillWaiter* waiter, bool has_stream) {
  Entry* const entry = l1->entry;
  if (l1->failed) return {Found::kQuarantined};
  if (l1->resident || (has_stream && l1->started)) {
    ++entry->pins;
    ++l1->pins;
    return {.found = l1->resident ? Found::kPinned : Found::kInFlight,
            .entry = entry,
            .bytes = entry->bytes(),
            .l1 = l1};
  }
  if (waiter != nullptr) waiter->Link(l1->waiters);
  return {.found = Found::kJoined, .bytes = entry->bytes()};
}

Directory::Lookup Directory::AcquireInL1(const HashedKey& key, Gpu* gpu, int64_t now_unix_ms,
                                         FillWaiter* waiter, bool has_stream) {
  Stripe& stripe = StripeFor(key.hash);
  MutexLock lock(stripe.mutex);
  Entry* const entry = FindReadable(stripe, key, now_unix_ms);
  L1Copy* const l1 = entry == nullptr ? nullptr : entry->l1(gpu);
  if (l1 == nullptr) return {};
  const Lookup lookup = JoinL1Locked(l1, waiter, has_stream);
  if (lookup.found == Found::kQuarantined) return {};
  // Not its copy in L2: while this one is here, that one is of less use than its neighbours.
  gpu->eviction.Touch(l1);
  parts_.l3_eviction->Touch(entry);
  TellRefusedUsed(*entry);
  TellAsked(entry);
  return lookup;
}

Directory::Lookup Directory::BeginLift(Entry* entry, Gpu* gpu, Extent target, FillWaiter* waiter,
                                       bool has_stream) {
  Stripe& stripe = StripeFor(entry->hash());
  MutexLock lock(stripe.mutex);
  CAIRN_CHECK(entry->l2 == CopyState::kResident && entry->pins_below_l1() > 0);
  if (L1Copy* const there = entry->l1(gpu)) return JoinL1Locked(there, waiter, has_stream);
  L1Copy& l1 = entry->AddL1(gpu, target);
  gpu->l1->owners().Set(target, entry->hash());
  ++entry->pins;
  if (has_stream) {
    ++entry->pins;
    ++l1.pins;
  } else if (waiter != nullptr) {
    waiter->Link(l1.waiters);
  }
  return {.found = Found::kNeedsFill, .entry = entry, .bytes = entry->bytes(), .l1 = &l1};
}

void Directory::LiftStarted(L1Copy* l1) {
  Stripe& stripe = StripeFor(l1->entry->hash());
  MutexLock lock(stripe.mutex);
  CAIRN_CHECK(!l1->resident);
  l1->started = true;
}

void Directory::EndLift(L1Copy* l1, const absl::Status& status) {
  Entry* const entry = l1->entry;
  FillWaiter* waiters = nullptr;
  bool dead = false;
  {
    Stripe& stripe = StripeFor(entry->hash());
    MutexLock lock(stripe.mutex);
    CAIRN_CHECK(!l1->resident && !l1->failed && entry->pins_below_l1() > 0);
    waiters = std::exchange(l1->waiters, nullptr);
    if (status.ok()) {
      l1->resident = true;
      Note(*entry, Decision::kLifted);
      for (FillWaiter* waiter = waiters; waiter != nullptr; waiter = waiter->next) {
        ++entry->pins;
        ++l1->pins;
      }
      if (entry->listed) {
        l1->gpu->stats.tensors.fetch_add(1, std::memory_order_relaxed);
        l1->gpu->eviction.Track(l1);
      }
    } else {
      l1->failed = true;
      if (l1->pins == 0) DropFromL1Locked(l1);
    }
    // As in EndFill.
    --entry->pins;
    dead = Dead(*entry);
  }
  while (waiters != nullptr) {
    FillWaiter* const next = waiters->next;
    waiters->OnFilled(status, status.ok() ? Pin{entry, l1} : Pin{});
    waiters = next;
  }
  if (dead) Bury(entry);
  parts_.room_made();
}

bool Directory::FindToLeaveL1(Gpu* gpu, absl::FunctionRef<bool(const L1Copy&)> fits,
                              absl::FunctionRef<void(L1Copy*)> take) {
  // Each once: those in use go to the warm end.
  const uint64_t tries = std::min(kEvictionTriesMax, gpu->eviction.size());
  ClassPools::PickOptions options;
  for (uint64_t i = 0; i < tries; ++i) {
    const std::optional<TierEviction::Candidate> candidate = gpu->eviction.Pick(options);
    if (!candidate.has_value()) return false;
    Stripe& stripe = StripeFor(candidate->hash);
    MutexLock lock(stripe.mutex);
    Entry* const entry = FindCandidate(stripe, *candidate);
    L1Copy* const l1 = entry == nullptr ? nullptr : entry->l1(gpu);
    if (l1 == nullptr || !l1->resident) continue;
    if (l1->pins > 0 || !fits(*l1)) {
      gpu->eviction.Keep(l1);
      continue;
    }
    take(l1);
    return true;
  }
  return false;
}

uint64_t Directory::EvictFromL1(Gpu* gpu) {
  uint64_t bytes = 0;
  FindToLeaveL1(
      gpu, [](const L1Copy& copy) { return !copy.readers.any(); },
      [&](L1Copy* l1) {
        bytes = l1->extent.bytes;
        EvictFromL1Locked(l1, Decision::kEvictedL1);
      });
  return bytes;
}

std::optional<Extent> Directory::TakeOverInL1(Gpu* gpu, uint64_t bytes) {
  std::optional<Extent> taken;
  FindToLeaveL1(
      gpu,
      [bytes](const L1Copy& copy) {
        return copy.extent.bytes >= bytes && copy.extent.bytes <= bytes + bytes / kTakenOverMore;
      },
      [&](L1Copy* l1) {
        gpu->stats.evictions.fetch_add(1, std::memory_order_relaxed);
        Note(*l1->entry, Decision::kEvictedL1);
        const std::unique_ptr<L1Copy> copy = TakeFromL1Locked(l1);
        gpu->l1->HandOver(copy->extent, bytes, std::move(copy->readers));
        taken = copy->extent;
      });
  return taken;
}

void Directory::ReadersPassed(Gpu* gpu) {
  if (gpu->l1 != nullptr) gpu->l1->FreeWhatIsRead();
  parts_.room_made();
}

absl::Status Directory::DropFromL1(const HashedKey& key) {
  Stripe& stripe = StripeFor(key.hash);
  MutexLock lock(stripe.mutex);
  Entry* const entry = Find(stripe, key);
  if (entry == nullptr) {
    return absl::NotFoundError(absl::StrCat("no tensor ", PrintableKey(key.key)));
  }
  for (const L1Copy* l1 = entry->first_l1(); l1 != nullptr; l1 = l1->next.get()) {
    if (l1->resident && l1->pins == 0) continue;
    return absl::ResourceExhaustedError(
        absl::StrCat("tensor ", PrintableKey(key.key),
                     l1->resident ? " is pinned in L1" : " is on its way to L1", " of GPU ",
                     l1->gpu->ordinal(), ", by ", l1->pins, " handles"));
  }
  // With the last one the entry may have nothing hot any more.
  while (L1Copy* const l1 = entry->first_l1()) {
    Note(*entry, Decision::kDroppedL1);
    DropFromL1Locked(l1);
  }
  return absl::OkStatus();
}

void Directory::DropFromL1Locked(L1Copy* l1) {
  const std::unique_ptr<L1Copy> copy = TakeFromL1Locked(l1);
  copy->gpu->l1->ReleaseBehind(copy->extent, std::move(copy->readers));
}

std::unique_ptr<L1Copy> Directory::TakeFromL1Locked(L1Copy* l1) {
  CAIRN_CHECK(l1->pins == 0 && l1->waiters == nullptr && (l1->resident || l1->failed));
  ForgetL1(l1);
  Entry* const entry = l1->entry;
  std::unique_ptr<L1Copy> copy = entry->TakeL1(l1);
  entry->CoolDown();
  return copy;
}

void Directory::EvictFromL1Locked(L1Copy* l1, Decision decision) {
  l1->gpu->stats.evictions.fetch_add(1, std::memory_order_relaxed);
  Note(*l1->entry, decision);
  DropFromL1Locked(l1);
}

void Directory::ForgetL1(L1Copy* l1) {
  l1->gpu->eviction.Forget(l1);
  if (l1->resident && l1->entry->listed) {
    l1->gpu->stats.tensors.fetch_sub(1, std::memory_order_relaxed);
  }
}

}  // namespace cairn
