#include "src/directory.h"

#include <algorithm>
#include <bit>
#include <utility>

#include "absl/strings/str_cat.h"
#include "src/base/check.h"
#include "src/base/strings.h"

namespace cairn {
namespace {

void FillInfo(const Entry& entry, TensorInfo* info) {
  info->meta = entry.meta();
  info->tensor_class = entry.tensor_class();
  info->retention = entry.retention();
  info->bytes = entry.bytes();
  for (const L1Copy* l1 = entry.first_l1(); l1 != nullptr; l1 = l1->next.get()) {
    info->in_l1 = info->in_l1 || l1->resident;
  }
  info->in_l2 = entry.l2 == CopyState::kResident;
  info->in_l3 = entry.l3 == CopyState::kResident && !entry.spilling;
  info->quarantined = entry.quarantined;
  const int64_t expires_unix_ms = entry.expires_unix_ms();
  info->expires =
      expires_unix_ms == 0 ? absl::InfiniteFuture() : absl::FromUnixMillis(expires_unix_ms);
}

uint64_t BytesToRead(const Entry& entry, const TensorInfo& info) {
  // What is on its way to L2 is asked for already.
  return info.in_l1 || entry.l2 != CopyState::kAbsent ? 0 : entry.bytes();
}

}  // namespace

Directory::Directory(uint32_t stripe_count, Parts parts)
    : parts_(std::move(parts)),
      stripe_count_(stripe_count),
      shift_(64 - static_cast<uint32_t>(std::bit_width(stripe_count) - 1)),
      stripes_(std::make_unique<Stripe[]>(stripe_count)) {
  CAIRN_CHECK(stripe_count >= 2 && std::has_single_bit(stripe_count));
}

Directory::~Directory() {
  for (uint32_t i = 0; i < stripe_count_; ++i) {
    Stripe& stripe = stripes_[i];
    MutexLock lock(stripe.mutex);
    for (Entry* entry : stripe.entries) {
      CAIRN_CHECK(entry->pins == 0);
      while (entry != nullptr) Forget(std::exchange(entry, entry->replaced()));
    }
    AbandonRemovals(stripe);
  }
}

Entry* Directory::Find(const Stripe& stripe, const HashedKey& key) {
  const auto found = stripe.entries.find(key);
  return found == stripe.entries.end() ? nullptr : *found;
}

Entry* Directory::FindReadable(const Stripe& stripe, const HashedKey& key, int64_t now_unix_ms) {
  Entry* entry = Find(stripe, key);
  if (entry == nullptr || entry->Expired(now_unix_ms)) return nullptr;
  return entry;
}

Entry* Directory::FindCandidate(const Stripe& stripe, const TierEviction::Candidate& candidate) {
  Entry* const entry = Find(stripe, {candidate.fingerprint_id, candidate.key, candidate.hash});
  return entry != nullptr && entry->sequence() == candidate.sequence ? entry : nullptr;
}

void Directory::TellRefusedUsed(const Entry& entry) {
  if (entry.refused && !entry.partial) parts_.refused_used(entry);
}

void Directory::EndPrefetch(Entry* entry, PrefetchQueue::End end) {
  HotPart* const hot = entry->hot();
  if (hot == nullptr || hot->prefetched_by == nullptr) return;
  std::exchange(hot->prefetched_by, nullptr)->Ended(hot->prefetched, entry->bytes(), end);
}

void Directory::TellAsked(Entry* entry) {
  EndPrefetch(entry, entry->l2 == CopyState::kFilling ? PrefetchQueue::End::kLate
                                                      : PrefetchQueue::End::kUsed);
}

void Directory::Touch(Entry* entry) {
  if (entry->spilling) entry->used = true;
  TellRefusedUsed(*entry);
  if (HotPart* const hot = entry->hot()) parts_.l2_eviction->Touch(hot);
  for (L1Copy* l1 = entry->first_l1(); l1 != nullptr; l1 = l1->next.get()) {
    l1->gpu->eviction.Touch(l1);
  }
  parts_.l3_eviction->Touch(entry);
}

Directory::Lookup Directory::Acquire(const HashedKey& key, int64_t now_unix_ms,
                                     FillWaiter* waiter) {
  Stripe& stripe = StripeFor(key.hash);
  MutexLock lock(stripe.mutex);
  Entry* entry = FindReadable(stripe, key, now_unix_ms);
  if (entry == nullptr) return {};
  if (waiter != nullptr) {
    if (entry->leases == 0) Touch(entry);
    TellAsked(entry);
  }
  switch (entry->l2) {
    case CopyState::kResident:
      ++entry->pins;
      return {Found::kPinned, entry, entry->bytes()};
    case CopyState::kFilling:
      return {Found::kJoined, nullptr, entry->bytes(), JoinFillLocked(*entry->hot(), waiter)};
    case CopyState::kAbsent:
      break;
  }
  if (entry->quarantined) return {Found::kQuarantined, nullptr, entry->bytes()};
  CAIRN_CHECK(entry->l3 == CopyState::kResident);
  return {Found::kNeedsFill, nullptr, entry->bytes()};
}

bool Directory::JoinFillLocked(HotPart& hot, FillWaiter* waiter) {
  if (waiter == nullptr) return false;
  waiter->Link(hot.fill_waiters);
  if (std::exchange(hot.wanted, true) || hot.raisable == nullptr) return false;
  hot.raisable->Raise();
  return true;
}

Directory::Lookup Directory::AcquireForDirectRead(const HashedKey& key, int64_t now_unix_ms) {
  Stripe& stripe = StripeFor(key.hash);
  MutexLock lock(stripe.mutex);
  Entry* entry = FindReadable(stripe, key, now_unix_ms);
  if (entry == nullptr) return {};
  if (entry->leases == 0) Touch(entry);
  TellAsked(entry);
  if (entry->l2 == CopyState::kResident) {
    ++entry->pins;
    return {Found::kPinned, entry, entry->bytes()};
  }
  if (entry->quarantined) return {Found::kQuarantined, nullptr, entry->bytes()};
  CAIRN_CHECK(entry->l3 == CopyState::kResident);
  ++entry->pins;
  return {Found::kNeedsFill, entry, entry->bytes()};
}

bool Directory::Describe(const HashedKey& key, int64_t now_unix_ms, TensorInfo* info,
                         uint64_t* bytes_to_read) const {
  Stripe& stripe = StripeFor(key.hash);
  MutexLock lock(stripe.mutex);
  const Entry* entry = FindReadable(stripe, key, now_unix_ms);
  if (entry == nullptr) return false;
  FillInfo(*entry, info);
  for (const L1Copy* l1 = entry->first_l1(); l1 != nullptr; l1 = l1->next.get()) {
    if (l1->resident) info->gpus.push_back(l1->gpu->ordinal());
  }
  std::sort(info->gpus.begin(), info->gpus.end());
  *bytes_to_read = BytesToRead(*entry, *info);
  return true;
}

bool Directory::Contains(const HashedKey& key, int64_t now_unix_ms, bool touch) {
  Stripe& stripe = StripeFor(key.hash);
  MutexLock lock(stripe.mutex);
  Entry* entry = FindReadable(stripe, key, now_unix_ms);
  if (entry == nullptr || entry->quarantined) return false;
  if (touch) Touch(entry);
  return true;
}

std::optional<uint64_t> Directory::FindOnL3(const HashedKey& key) const {
  Stripe& stripe = StripeFor(key.hash);
  MutexLock lock(stripe.mutex);
  const Entry* entry = Find(stripe, key);
  if (entry == nullptr || entry->spilling || entry->l3 != CopyState::kResident) return std::nullopt;
  return entry->l3_extent().offset;
}

std::optional<std::string> Directory::FindOnL3Alone(uint64_t key_hash) const {
  Stripe& stripe = StripeFor(key_hash);
  MutexLock lock(stripe.mutex);
  const auto found = stripe.entries.find(AnyOfHash{key_hash});
  if (found == stripe.entries.end()) return std::nullopt;
  const Entry& entry = **found;
  if (entry.l2 != CopyState::kAbsent || entry.quarantined) return std::nullopt;
  return std::string(entry.key());
}

Entry* Directory::AddLease(const HashedKey& key, int64_t now_unix_ms, TensorInfo* info,
                           uint64_t* bytes_to_read) {
  Stripe& stripe = StripeFor(key.hash);
  MutexLock lock(stripe.mutex);
  Entry* entry = FindReadable(stripe, key, now_unix_ms);
  if (entry == nullptr || entry->quarantined) return nullptr;
  ++entry->leases;
  FillInfo(*entry, info);
  *bytes_to_read = BytesToRead(*entry, *info);
  return entry;
}

void Directory::Request(absl::Span<const HashedKey> keys) {
  std::vector<uint64_t> hashes;
  hashes.reserve(keys.size());
  for (const HashedKey& key : keys) hashes.push_back(key.hash);
  parts_.l2_eviction->Request(hashes);
  parts_.l3_eviction->Request(hashes);
  parts_.admission->Request(hashes);
}

void Directory::UseLeased(Entry* entry) {
  Stripe& stripe = StripeFor(entry->hash());
  MutexLock lock(stripe.mutex);
  CAIRN_CHECK(entry->leases > 0);
  Touch(entry);
}

void Directory::DropLease(Entry* entry) {
  Stripe& stripe = StripeFor(entry->hash());
  bool dead = false;
  {
    MutexLock lock(stripe.mutex);
    CAIRN_CHECK(entry->leases > 0);
    --entry->leases;
    dead = Dead(*entry);
  }
  if (dead) Bury(entry);
  parts_.room_made();
}

void Directory::ForEach(absl::FunctionRef<void(const Entry&, const TensorInfo&)> visitor) const {
  for (uint32_t i = 0; i < stripe_count_; ++i) {
    Stripe& stripe = stripes_[i];
    MutexLock lock(stripe.mutex);
    for (const Entry* const entry : stripe.entries) {
      TensorInfo info;
      FillInfo(*entry, &info);
      visitor(*entry, info);
    }
  }
}

size_t Directory::size() const {
  size_t count = 0;
  for (uint32_t i = 0; i < stripe_count_; ++i) {
    Stripe& stripe = stripes_[i];
    MutexLock lock(stripe.mutex);
    count += stripe.entries.size();
  }
  return count;
}

void Directory::Unpin(Pin pin, std::shared_ptr<StreamPoint> read_until) {
  const auto [entry, l1] = pin;
  Stripe& stripe = StripeFor(entry->hash());
  bool dead = false;
  {
    MutexLock lock(stripe.mutex);
    CAIRN_CHECK(entry->pins > 0);
    --entry->pins;
    if (l1 != nullptr) {
      CAIRN_CHECK(l1->pins > 0);
      if (read_until != nullptr) l1->readers.Add(std::move(read_until));
      if (--l1->pins == 0 && l1->failed) DropFromL1Locked(l1);
    }
    dead = Dead(*entry);
  }
  if (dead) Bury(entry);
  parts_.room_made();
}

void Directory::Forget(Entry* entry) {
  if (PackExtent* pack = entry->pack; pack != nullptr && --pack->members == 0) delete pack;
  delete entry;
}

void Directory::KeepPack(PackExtent* pack) {
  pack->kept = true;
  kept_bytes_.fetch_add(pack->table.bytes, std::memory_order_relaxed);
}

void Directory::ReleaseL3(Entry* entry) {
  const Extent extent = entry->TakeL3Extent();
  PackExtent* const pack = std::exchange(entry->pack, nullptr);
  // Another's write may end before it is listed, and then it was never added.
  if (entry->counted && entry->retention() == Retention::kKeep) {
    kept_bytes_.fetch_sub(extent.bytes, std::memory_order_relaxed);
  }
  const bool pack_kept = pack != nullptr && pack->kept;
  const uint64_t table_bytes = parts_.l3->Release(extent, pack);
  if (pack_kept) kept_bytes_.fetch_sub(table_bytes, std::memory_order_relaxed);
}

void Directory::Count(Entry* entry) {
  entry->counted = true;
  index_bytes_.fetch_add(entry->index_bytes(), std::memory_order_relaxed);
}

void Directory::AddKept(const Entry& entry) {
  if (entry.retention() == Retention::kKeep) {
    kept_bytes_.fetch_add(entry.l3_extent().bytes, std::memory_order_relaxed);
  }
}

bool Directory::YieldToNewer(Stripe& stripe, Entry* entry) {
  Entry* newer = Find(stripe, HashedKey(*entry));
  if (newer == nullptr || newer->sequence() < entry->sequence()) return false;
  Count(entry);
  // The index has the newer write, or is never to have any.
  if (!newer->spilling || newer->indexed) return true;
  // Until then it is to have this one, as if the newer had replaced it.
  for (Entry* older = newer->replaced(); older != nullptr && older->sequence() > entry->sequence();
       older = newer->replaced()) {
    if (older->indexed) return true;
    newer = older;
  }
  ++entry->pins;
  entry->MakeHot().replaced = std::exchange(newer->MakeHot().replaced, entry);
  return true;
}

Entry* Directory::ListLocked(Stripe& stripe, Entry* entry) {
  Entry* old = Find(stripe, HashedKey(*entry));
  Entry* dead = nullptr;
  Count(entry);
  if (old != nullptr) {
    Note(*old, Decision::kReplaced);
    Unlist(stripe, old);
    // The index names the old write, or will, until the new one is committed: its extent is not
    // free before.
    if (old->indexed || old->spilling || old->replaced() != nullptr) {
      ++old->pins;
      entry->MakeHot().replaced = old;
    } else if (Dead(*old)) {
      dead = old;
    }
  }
  entry->listed = true;
  CAIRN_CHECK(stripe.entries.insert(entry).second);
  if (entry->l2 == CopyState::kResident) l2_counts_.Add(entry->tensor_class(), entry->bytes());
  return dead;
}

void Directory::Unlist(Stripe& stripe, Entry* entry) {
  CAIRN_CHECK(entry->listed);
  for (L1Copy* l1 = entry->first_l1(); l1 != nullptr; l1 = l1->next.get()) ForgetL1(l1);
  EndPrefetch(entry, PrefetchQueue::End::kUnused);
  entry->listed = false;
  CAIRN_CHECK(stripe.entries.erase(entry) == 1);
  if (HotPart* const hot = entry->hot()) parts_.l2_eviction->Forget(hot);
  parts_.l3_eviction->Forget(entry);
  if (entry->l2 == CopyState::kResident) l2_counts_.Remove(entry->tensor_class(), entry->bytes());
  if (entry->l3 == CopyState::kResident) l3_counts_.Remove(entry->tensor_class(), entry->bytes());
  if (entry->quarantined) quarantined_.fetch_sub(1, std::memory_order_relaxed);
  if (entry->refused) refused_count_.fetch_sub(1, std::memory_order_relaxed);
}

void Directory::Bury(Entry* entry) {
  if (entry->counted) index_bytes_.fetch_sub(entry->index_bytes(), std::memory_order_relaxed);
  if (const HotPart* const hot = entry->hot()) {
    CAIRN_CHECK(hot->fill_waiters == nullptr && hot->spill_waiters == nullptr);
    CAIRN_CHECK(entry->l2 != CopyState::kFilling);
    if (entry->l2 == CopyState::kResident) parts_.l2->Release(hot->l2_extent);
    for (L1Copy* l1 = entry->first_l1(); l1 != nullptr; l1 = l1->next.get()) {
      l1->gpu->l1->ReleaseBehind(l1->extent, std::move(l1->readers));
    }
  }
  if (entry->l3_extent().bytes > 0) ReleaseL3(entry);
  Entry* const rewrite = entry->replaced();  // EndRewrite has left it.
  delete entry;
  if (rewrite != nullptr) Unpin(rewrite);
}

}  // namespace cairn
