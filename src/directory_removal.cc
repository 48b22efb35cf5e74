// The steps of copies that leave: removal from the index. Eviction is in directory_eviction.cc.

#include <utility>
#include <vector>

#include "src/base/check.h"
#include "src/directory.h"

namespace cairn {
namespace {

// One that is still on its way to L3 may be moved elsewhere at this moment, and frees nothing soon.
LeavingBytes BytesOf(const Entry& entry) {
  const bool settled = entry.l3 == CopyState::kResident || !entry.spilling;
  return {settled ? entry.l3_extent().bytes : 0, entry.index_bytes()};
}

// Of an entry, if it is not null, and of all that another replaced.
LeavingBytes BytesOf(const Entry* entry, const Entry* chain) {
  LeavingBytes bytes;
  if (entry != nullptr) bytes = BytesOf(*entry);
  for (; chain != nullptr; chain = chain->replaced()) {
    const LeavingBytes replaced = BytesOf(*chain);
    bytes.l3 += replaced.l3;
    bytes.index += replaced.index;
  }
  return bytes;
}

}  // namespace

// The index on its way to forget a key. Holds a pin on the entry, or on the chain it replaced,
// until the index has confirmed it or something newer of the key, however often that is tried.
class Directory::Removal final : public IndexChange {
 public:
  Removal(Directory* directory, Entry* entry, Entry* replaced)
      : directory_(directory),
        entry_(entry),
        replaced_(replaced),
        hash_((entry == nullptr ? replaced : entry)->hash()),
        bytes_(BytesOf(entry, replaced)) {
    kind = IndexEdit::Kind::kDelete;
    const Entry* named = entry == nullptr ? replaced : entry;
    fingerprint_id = named->fingerprint_id();
    key = named->key();
    directory_->AddLeaving(bytes_);
  }

  HashedKey ref() const { return {fingerprint_id, key, hash_}; }
  void OnCommitted(absl::Status status) override { directory_->EndRemoval(this, status); }

  // With the stripe's lock held:
  void Enqueue() {
    failed_ = false;
    directory_->parts_.index_writer->Enqueue(this);
  }
  void Join(Committed committed) { committed_.push_back(std::move(committed)); }
  std::vector<Committed> TakeCommitted() { return std::exchange(committed_, {}); }
  // Out of the index writer's hands without success.
  bool failed() const { return failed_; }
  void set_failed() { failed_ = true; }
  // An earlier one of the key that failed is confirmed with this one.
  void Adopt(Removal* earlier) {
    while (earlier->earlier_ != nullptr) Adopt(std::exchange(earlier->earlier_, nullptr));
    earlier->earlier_ = std::exchange(earlier_, earlier);
  }

  // Confirmed. No lock held.
  void Release() {
    if (earlier_ != nullptr) earlier_->Release();
    if (replaced_ != nullptr) directory_->ReleaseReplaced(replaced_);
    if (entry_ != nullptr) directory_->Unpin(entry_);
    directory_->SubtractLeaving(bytes_);
    directory_->parts_.room_made();
    delete this;
  }
  // The directory ends first.
  void Abandon() {
    if (earlier_ != nullptr) earlier_->Abandon();
    if (entry_ != nullptr) directory_->Forget(entry_);
    for (Entry* entry = replaced_; entry != nullptr;) {
      directory_->Forget(std::exchange(entry, entry->replaced()));
    }
    delete this;
  }

 private:
  Directory* const directory_;
  Entry* const entry_;
  Entry* const replaced_;
  const uint64_t hash_;
  const LeavingBytes bytes_;
  bool failed_ = false;
  Removal* earlier_ = nullptr;
  std::vector<Committed> committed_;
};

void Directory::AddLeaving(const LeavingBytes& bytes) {
  l3_bytes_leaving_.fetch_add(bytes.l3, std::memory_order_relaxed);
  index_bytes_leaving_.fetch_add(bytes.index, std::memory_order_relaxed);
}

void Directory::SubtractLeaving(const LeavingBytes& bytes) {
  l3_bytes_leaving_.fetch_sub(bytes.l3, std::memory_order_release);
  index_bytes_leaving_.fetch_sub(bytes.index, std::memory_order_release);
}

void Directory::EnqueueRemoval(Stripe& stripe, Entry* entry, Entry* replaced) {
  auto* const removal = new Removal(this, entry, replaced);
  if (const auto found = stripe.removals.find(removal->ref()); found != stripe.removals.end()) {
    // One that has not failed may yet, and is adopted then.
    if (found->second->failed()) removal->Adopt(found->second);
    stripe.removals.erase(found);
  }
  stripe.removals.emplace(removal->ref(), removal);
  removal->Enqueue();
}

bool Directory::JoinRemoval(Stripe& stripe, const HashedKey& key, Committed& committed) {
  const auto found = stripe.removals.find(key);
  if (found == stripe.removals.end()) return false;
  found->second->Join(std::move(committed));
  if (found->second->failed()) found->second->Enqueue();
  return true;
}

void Directory::EndRemoval(Removal* removal, const absl::Status& status) {
  std::vector<Committed> committed;
  {
    Stripe& stripe = StripeFor(removal->ref().hash);
    MutexLock lock(stripe.mutex);
    committed = removal->TakeCommitted();
    // The removals of a key end in their order, so a later one is still there.
    const auto last = stripe.removals.find(removal->ref());
    CAIRN_CHECK(last != stripe.removals.end());
    if (!status.ok()) removal->set_failed();
    if (last->second != removal) {
      if (!status.ok()) last->second->Adopt(removal);
    } else if (status.ok()) {
      stripe.removals.erase(last);
    }
  }
  if (status.ok()) removal->Release();
  for (Committed& each : committed) each(status);
}

void Directory::ForEachLeaving(
    absl::FunctionRef<void(uint32_t fingerprint_id, std::string_view key)> visitor) const {
  for (uint32_t i = 0; i < stripe_count_; ++i) {
    Stripe& stripe = stripes_[i];
    MutexLock lock(stripe.mutex);
    for (const auto& [ref, removal] : stripe.removals) visitor(ref.fingerprint_id, ref.key);
  }
}

void Directory::RetryRemovals(uint32_t number) {
  Stripe& stripe = stripes_[number % stripe_count_];
  MutexLock lock(stripe.mutex);
  for (const auto& [ref, removal] : stripe.removals) {
    if (!removal->failed()) continue;
    // What the index may name by now is newer and must stay.
    const Entry* entry = Find(stripe, ref);
    while (entry != nullptr && !entry->indexed) entry = entry->replaced();
    if (entry == nullptr) removal->Enqueue();
  }
}

Directory::Removal* Directory::TakeVoidRemoval(Stripe& stripe, const Entry& entry) {
  const auto found = stripe.removals.find(HashedKey(entry));
  if (found == stripe.removals.end() || !found->second->failed()) return nullptr;
  Removal* const removal = found->second;
  stripe.removals.erase(found);
  return removal;
}

void Directory::ReleaseRemoval(Removal* removal) { removal->Release(); }

void Directory::AbandonRemovals(Stripe& stripe) {
  for (const auto& [ref, removal] : std::exchange(stripe.removals, {})) {
    CAIRN_CHECK(removal->failed());
    removal->Abandon();
  }
}

bool Directory::RemoveLocked(Stripe& stripe, Entry* entry) {
  Unlist(stripe, entry);
  Entry* replaced = entry->TakeReplaced();
  if (!entry->indexed && replaced == nullptr) return false;
  ++entry->pins;
  EnqueueRemoval(stripe, entry, replaced);
  return true;
}

void Directory::ReleaseReplaced(Entry* chain) {
  while (chain != nullptr) {
    Entry* entry = chain;
    {
      Stripe& stripe = StripeFor(entry->hash());
      MutexLock lock(stripe.mutex);
      chain = entry->TakeReplaced();
    }
    Unpin(entry);
  }
}

bool Directory::Remove(const HashedKey& key, Committed committed) {
  Stripe& stripe = StripeFor(key.hash);
  Entry* entry = nullptr;
  Entry* dead = nullptr;
  bool joined = false;
  {
    MutexLock lock(stripe.mutex);
    entry = Find(stripe, key);
    if (entry != nullptr) {
      Note(*entry, Decision::kErased);
      if (!RemoveLocked(stripe, entry) && Dead(*entry)) dead = entry;
    }
    joined = JoinRemoval(stripe, key, committed);
  }
  if (dead != nullptr) Bury(dead);
  if (!joined) {
    if (entry != nullptr) parts_.room_made();
    committed(absl::OkStatus());
  }
  return entry != nullptr;
}

uint64_t Directory::RemoveExpired(uint32_t number, int64_t now_unix_ms) {
  Stripe& stripe = stripes_[number % stripe_count_];
  std::vector<Entry*> dead;
  uint64_t count = 0;
  {
    MutexLock lock(stripe.mutex);
    std::vector<Entry*> expired;
    for (Entry* const entry : stripe.entries) {
      if (entry->Expired(now_unix_ms)) expired.push_back(entry);
    }
    count = expired.size();
    for (Entry* entry : expired) {
      Note(*entry, Decision::kExpired);
      if (!RemoveLocked(stripe, entry) && Dead(*entry)) dead.push_back(entry);
    }
  }
  for (Entry* entry : dead) Bury(entry);
  if (count > 0) parts_.room_made();
  return count;
}

}  // namespace cairn
