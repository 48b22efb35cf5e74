// The steps of copies that leave: removal from the index, eviction.

#include <optional>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "src/base/check.h"
#include "src/base/strings.h"
#include "src/directory.h"

namespace cairn {
namespace {

// A tier whose coldest copies are all in use is asked again later rather than searched to the end.
constexpr int kEvictionTriesMax = 256;

uint64_t ChainBytes(const Entry* entry) {
  uint64_t bytes = 0;
  for (; entry != nullptr; entry = entry->replaced) bytes += entry->l3_extent.bytes;
  return bytes;
}

}  // namespace

// The index on its way to forget a key. Holds a pin on the entry, or on the chain it replaced.
class Directory::Removal final : public IndexChange {
 public:
  Removal(Directory* directory, Entry* entry, Entry* replaced, Committed committed)
      : directory_(directory),
        entry_(entry),
        replaced_(replaced),
        bytes_((entry == nullptr ? 0 : entry->l3_extent.bytes) + ChainBytes(replaced)),
        committed_(std::move(committed)) {
    kind = IndexEdit::Kind::kDelete;
    const Entry* named = entry == nullptr ? replaced : entry;
    fingerprint_id = named->fingerprint_id;
    key = named->key;
    directory_->l3_bytes_leaving_.fetch_add(bytes_, std::memory_order_relaxed);
  }

  void OnCommitted(absl::Status status) override {
    directory_->EndRemoval(entry_, replaced_, status);
    directory_->l3_bytes_leaving_.fetch_sub(bytes_, std::memory_order_release);
    directory_->parts_.room_made();
    if (committed_) committed_(std::move(status));
    delete this;
  }

 private:
  Directory* const directory_;
  Entry* const entry_;
  Entry* const replaced_;
  const uint64_t bytes_;
  Committed committed_;
};

void Directory::EnqueueRemoval(Entry* entry, Entry* replaced, Committed committed) {
  parts_.index_writer->Enqueue(new Removal(this, entry, replaced, std::move(committed)));
}

bool Directory::RemoveLocked(Stripe& stripe, Entry* entry, Committed& committed) {
  Unlist(stripe, entry);
  Entry* replaced = std::exchange(entry->replaced, nullptr);
  if (!entry->indexed && replaced == nullptr) return false;
  ++entry->pins;
  EnqueueRemoval(entry, replaced, std::move(committed));
  return true;
}

void Directory::EndRemoval(Entry* entry, Entry* replaced, const absl::Status& status) {
  if (replaced != nullptr) ReleaseReplaced(replaced, status.ok());
  if (entry == nullptr) return;
  if (!status.ok()) {
    Stripe& stripe = StripeFor(entry->hash);
    MutexLock lock(stripe.mutex);
    if (entry->indexed) entry->l3_kept_back = true;
  }
  Unpin(entry);
}

void Directory::ReleaseReplaced(Entry* chain, bool index_forgot) {
  while (chain != nullptr) {
    Entry* entry = chain;
    {
      Stripe& stripe = StripeFor(entry->hash);
      MutexLock lock(stripe.mutex);
      chain = std::exchange(entry->replaced, nullptr);
      if (!index_forgot && entry->indexed) entry->l3_kept_back = true;
    }
    Unpin(entry);
  }
}

bool Directory::Remove(const HashedKey& key, Committed committed) {
  Stripe& stripe = StripeFor(key.hash);
  Entry* dead = nullptr;
  {
    MutexLock lock(stripe.mutex);
    Entry* entry = Find(stripe, key);
    if (entry == nullptr) return false;
    if (RemoveLocked(stripe, entry, committed)) return true;
    if (Dead(*entry)) dead = entry;
  }
  if (dead != nullptr) Bury(dead);
  parts_.room_made();
  if (committed) committed(absl::OkStatus());
  return true;
}

uint64_t Directory::RemoveExpired(uint32_t number, int64_t now_unix_ms) {
  Stripe& stripe = stripes_[number % stripe_count_];
  std::vector<Entry*> dead;
  uint64_t count = 0;
  {
    MutexLock lock(stripe.mutex);
    std::vector<Entry*> expired;
    for (const auto& [ref, entry] : stripe.entries) {
      if (entry->Expired(now_unix_ms)) expired.push_back(entry);
    }
    count = expired.size();
    for (Entry* entry : expired) {
      Committed nobody;
      if (!RemoveLocked(stripe, entry, nobody) && Dead(*entry)) dead.push_back(entry);
    }
  }
  for (Entry* entry : dead) Bury(entry);
  if (count > 0) parts_.room_made();
  return count;
}

uint64_t Directory::EvictFromL2() {
  for (int i = 0; i < kEvictionTriesMax; ++i) {
    const std::optional<TierEviction::Candidate> candidate = parts_.l2_eviction->Pick();
    if (!candidate.has_value()) return 0;
    Stripe& stripe = StripeFor(candidate->hash);
    Entry* dead = nullptr;
    Extent freed;
    {
      MutexLock lock(stripe.mutex);
      Entry* entry = FindCandidate(stripe, *candidate);
      if (entry == nullptr || entry->l2 != CopyState::kResident) continue;
      const bool only_copy = entry->l3 != CopyState::kResident;
      if (entry->pins > 0 || (only_copy && entry->leases > 0)) {
        parts_.l2_eviction->Track(&entry->l2_node);
        continue;
      }
      freed = entry->l2_extent;
      if (only_copy) {
        Committed nobody;
        if (!RemoveLocked(stripe, entry, nobody)) dead = entry;
      } else {
        parts_.l2_eviction->Forget(&entry->l2_node);
        l2_count_.fetch_sub(1, std::memory_order_relaxed);
        entry->l2 = CopyState::kAbsent;
        entry->l2_extent = {};
        // Here and not later: a pinned reader of this stripe may take the copy's place at once.
        parts_.l2->Release(freed);
      }
    }
    if (dead != nullptr) Bury(dead);
    return freed.bytes;
  }
  return 0;
}

uint64_t Directory::EvictFromL3() {
  for (int i = 0; i < kEvictionTriesMax; ++i) {
    const std::optional<TierEviction::Candidate> candidate = parts_.l3_eviction->Pick();
    if (!candidate.has_value()) return 0;
    Stripe& stripe = StripeFor(candidate->hash);
    MutexLock lock(stripe.mutex);
    Entry* entry = FindCandidate(stripe, *candidate);
    if (entry == nullptr || entry->l3 != CopyState::kResident) continue;
    if (entry->pins > 0 || entry->leases > 0) {
      parts_.l3_eviction->Track(&entry->l3_node);
      continue;
    }
    const uint64_t bytes = entry->l3_extent.bytes;
    Committed nobody;
    CAIRN_CHECK(RemoveLocked(stripe, entry, nobody));
    return bytes;
  }
  return 0;
}

absl::Status Directory::DropFromL2(const HashedKey& key) {
  Stripe& stripe = StripeFor(key.hash);
  MutexLock lock(stripe.mutex);
  Entry* entry = Find(stripe, key);
  if (entry == nullptr) {
    return absl::NotFoundError(absl::StrCat("no tensor ", PrintableKey(key.key)));
  }
  if (entry->l2 == CopyState::kAbsent) return absl::OkStatus();
  if (entry->pins > 0 || entry->l3 != CopyState::kResident) {
    return absl::ResourceExhaustedError(
        absl::StrCat("tensor ", PrintableKey(key.key), " is pinned ", entry->pins, " times"));
  }
  parts_.l2_eviction->Forget(&entry->l2_node);
  l2_count_.fetch_sub(1, std::memory_order_relaxed);
  parts_.l2->Release(entry->l2_extent);
  entry->l2 = CopyState::kAbsent;
  entry->l2_extent = {};
  return absl::OkStatus();
}

}  // namespace cairn
