// Open, Close, and the verbs that are one step of the directory.

#include "cairn/store.h"

#include <algorithm>
#include <map>
#include <utility>

#include "absl/strings/str_cat.h"
#include "src/base/status_macros.h"
#include "src/base/strings.h"
#include "src/store_impl.h"
#include "tiers/kv_rows.h"

namespace cairn {
namespace {

// How long Flush and Evict wait for room on L3 for what admission had refused.
constexpr absl::Duration kLateSpillTimeout = absl::Seconds(30);

bool StartsWith(std::string_view text, std::string_view prefix) {
  return text.substr(0, prefix.size()) == prefix;
}

// Counts removals whose end the index writer tells.
class RemovalCount {
 public:
  void Begin() {
    MutexLock lock(mutex_);
    ++left_;
  }
  void End(const absl::Status& status) {
    MutexLock lock(mutex_);
    status_.Update(status);
    if (--left_ == 0) none_left_.NotifyAll();
  }
  absl::Status Wait() {
    MutexLock lock(mutex_);
    while (left_ > 0) none_left_.Wait(mutex_);
    return status_;
  }

 private:
  Mutex mutex_;
  CondVar none_left_;
  uint64_t left_ ABSL_GUARDED_BY(mutex_) = 0;
  absl::Status status_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace

absl::StatusOr<std::unique_ptr<Store>> OpenStore(const StoreOptions& options, StoreSeams seams) {
  CAIRN_ASSIGN_OR_RETURN(std::shared_ptr<StoreCore> core,
                         StoreCore::Open(options, std::move(seams)));
  return std::make_unique<StoreImpl>(std::move(core));
}

absl::StatusOr<std::unique_ptr<Store>> Store::Open(const StoreOptions& options) {
  return OpenStore(options, {});
}

StoreImpl::CallScope::CallScope(const StoreImpl* store) : store_(store) {
  store_->calls_.fetch_add(1);
  if (store_->closed_.load()) status_ = absl::FailedPreconditionError("the store is closed");
}

StoreImpl::CallScope::~CallScope() { store_->calls_.fetch_sub(1); }

StoreImpl::~StoreImpl() {
  absl::Status status = Close();
  if (absl::IsDeadlineExceeded(status)) {
    core_->Log(absl::StrCat("closing the store: ", status.message(),
                            "; waiting, as the device may still write into its memory"));
    status = CloseBefore(Deadline::max());
  }
  if (!status.ok()) core_->Log(absl::StrCat("closing the store: ", status.ToString()));
}

absl::Status StoreImpl::Close() { return CloseBefore(DeadlineAfter(core_->options.close_timeout)); }

absl::Status StoreImpl::CloseBefore(Deadline deadline) {
  // Where no thread is left to be waited for: on this one, in its own time, whatever the deadline.
  if (!closed_.exchange(true) && !closer_.Start("cairn-closer", [this] { End(); }).ok()) End();
  MutexLock lock(close_mutex_);
  while (!ended_) {
    if (close_ended_.WaitUntil(close_mutex_, deadline) || ended_) continue;
    return absl::DeadlineExceededError(absl::StrCat(
        core_->options.path, " is still closing: ", calls_.load(), " calls and ",
        core_->spill_tracker.under_way(), " writes to L3 have not ended, or a flush has not"));
  }
  return std::exchange(close_status_, absl::OkStatus());
}

void StoreImpl::End() {
  while (calls_.load() > 0) SleepFor(std::chrono::milliseconds(1));
  core_->prefetches->Close();
  core_->predictions->Close();
  while (prefetch_turns_.load() > 0) SleepFor(std::chrono::milliseconds(1));
  absl::Status status = core_->Shutdown();
  MutexLock lock(close_mutex_);
  ended_ = true;
  close_status_ = std::move(status);
  close_ended_.NotifyAll();
}

absl::StatusOr<LeadingHits> StoreImpl::CountLeading(absl::Span<const TensorKey> keys,
                                                    const LeaseOptions& options) {
  const CallScope scope(this);
  CAIRN_RETURN_IF_ERROR(scope.status());
  std::vector<HashedKey> chain;
  chain.reserve(keys.size());
  for (const TensorKey key : keys) {
    CAIRN_RETURN_IF_ERROR(ValidateKey(key.bytes()));
    chain.push_back(Hashed(key.bytes()));
  }
  core_->directory->Request(chain);
  Named(chain);
  LeadingHits hits;
  uint64_t bytes_to_read = 0;
  std::vector<Entry*> leased;
  const int64_t now = core_->NowUnixMs();
  for (const HashedKey& key : chain) {
    TensorInfo info;
    uint64_t bytes_of_it = 0;
    Entry* entry = core_->directory->AddLease(key, now, &info, &bytes_of_it);
    if (entry == nullptr) break;
    bytes_to_read += bytes_of_it;
    leased.push_back(entry);
    ++(info.in_l1 ? hits.count_l1 : info.in_l2 ? hits.count_l2 : hits.count_l3);
    hits.bytes += info.bytes;
  }
  hits.count = leased.size();
  if (hits.count_l3 > 0) hits.arrival = core_->l3->reads().Arrival(bytes_to_read, SteadyNow());
  for (size_t i = leased.size(); i-- > 0;) core_->directory->UseLeased(leased[i]);
  if (!leased.empty()) {
    hits.lease =
        core_->NewLease(core_->leases->Grant(std::move(leased), DeadlineAfter(options.duration)));
  }
  return hits;
}

absl::Status StoreImpl::ForgetStream(StreamRef stream) {
  const CallScope scope(this);
  CAIRN_RETURN_IF_ERROR(scope.status());
  CAIRN_ASSIGN_OR_RETURN(Gpu* const gpu, FindGpu(core_->gpus, /*ordinal=*/std::nullopt, stream));
  return gpu->releases->ForgetStream(stream);
}

absl::Status StoreImpl::Evict(TensorKey key, Level keep) {
  const CallScope scope(this);
  CAIRN_RETURN_IF_ERROR(scope.status());
  CAIRN_RETURN_IF_ERROR(ValidateKey(key.bytes()));
  const HashedKey hashed = Hashed(key.bytes());
  if (keep == Level::kL1Gpu) {
    const bool there = core_->directory->Contains(hashed, core_->NowUnixMs(), /*touch=*/false);
    return there ? absl::OkStatus()
                 : absl::NotFoundError(absl::StrCat("no tensor ", PrintableKey(key.bytes())));
  }
  CAIRN_RETURN_IF_ERROR(core_->directory->DropFromL1(hashed));
  if (keep == Level::kL2Pinned) return absl::OkStatus();
  CAIRN_RETURN_IF_ERROR(
      core_->late_spills->Write(hashed, /*promised=*/true, DeadlineAfter(kLateSpillTimeout)));
  SpillWait wait;
  SpillWaiter* waiter = wait.NewWaiter();
  absl::Status written;
  if (core_->directory->JoinSpill(hashed, waiter, &written)) {
    written = wait.Wait(Deadline::max());
  } else {
    SpillWait::Discard(waiter);
  }
  CAIRN_RETURN_IF_ERROR(written);
  return core_->directory->DropFromL2(hashed);
}

absl::Status StoreImpl::Erase(TensorKey key) {
  const CallScope scope(this);
  CAIRN_RETURN_IF_ERROR(scope.status());
  CAIRN_RETURN_IF_ERROR(ValidateKey(key.bytes()));
  StatsRecorder::Add(core_->stats.erases);
  RemovalCount removals;
  removals.Begin();
  core_->directory->Remove(Hashed(key.bytes()),
                           [&removals](const absl::Status& status) { removals.End(status); });
  return removals.Wait();
}

uint64_t StoreImpl::RemoveAll(uint32_t fingerprint_id, std::string_view key_prefix,
                              absl::Status* status) {
  std::vector<std::string> keys;
  const auto collect = [&](uint32_t id, std::string_view key) {
    if (id == fingerprint_id && StartsWith(key, key_prefix)) keys.emplace_back(key);
  };
  core_->directory->ForEach(
      [&](const Entry& entry, const TensorInfo&) { collect(entry.fingerprint_id(), entry.key()); });
  core_->directory->ForEachLeaving(collect);
  RemovalCount removals;
  uint64_t count = 0;
  for (const std::string& key : keys) {
    removals.Begin();
    const bool there = core_->directory->Remove(
        HashedKey(fingerprint_id, key),
        [&removals](const absl::Status& removed) { removals.End(removed); });
    if (there) ++count;
  }
  *status = removals.Wait();
  StatsRecorder::Add(core_->stats.erases, count);
  return count;
}

absl::StatusOr<uint64_t> StoreImpl::ErasePrefix(std::string_view key_prefix) {
  const CallScope scope(this);
  CAIRN_RETURN_IF_ERROR(scope.status());
  absl::Status status;
  const uint64_t count = RemoveAll(core_->fingerprint_id, key_prefix, &status);
  CAIRN_RETURN_IF_ERROR(status);
  return count;
}

absl::StatusOr<uint64_t> StoreImpl::PurgeFingerprint(std::string_view fingerprint) {
  const CallScope scope(this);
  CAIRN_RETURN_IF_ERROR(scope.status());
  CAIRN_ASSIGN_OR_RETURN(const std::vector<Fingerprint> known, core_->index->Fingerprints());
  for (const Fingerprint& one : known) {
    if (one.text != fingerprint) continue;
    absl::Status status;
    const uint64_t count = RemoveAll(one.id, "", &status);
    CAIRN_RETURN_IF_ERROR(status);
    if (one.id != core_->fingerprint_id) {
      CAIRN_RETURN_IF_ERROR(core_->index->DropFingerprint(one.id));
    }
    return count;
  }
  return 0;
}

absl::Status StoreImpl::Flush() {
  const CallScope scope(this);
  CAIRN_RETURN_IF_ERROR(scope.status());
  const uint64_t last = core_->next_sequence.load() - 1;
  CAIRN_RETURN_IF_ERROR(core_->late_spills->WriteAll(DeadlineAfter(kLateSpillTimeout)));
  core_->spill_tracker.WaitUpTo(last);
  CAIRN_RETURN_IF_ERROR(core_->FlushDevice());
  const auto [failures, last_failure] = core_->spill_tracker.TakeFailures();
  if (failures == 0) return absl::OkStatus();
  return absl::UnavailableError(absl::StrCat(
      failures, " tensors were not written to L3, the last because: ", last_failure.message()));
}

absl::StatusOr<TensorInfo> StoreImpl::Describe(TensorKey key) const {
  const CallScope scope(this);
  CAIRN_RETURN_IF_ERROR(scope.status());
  CAIRN_RETURN_IF_ERROR(ValidateKey(key.bytes()));
  TensorInfo info;
  uint64_t bytes_to_read = 0;
  if (!core_->directory->Describe(Hashed(key.bytes()), core_->NowUnixMs(), &info, &bytes_to_read)) {
    return absl::NotFoundError(absl::StrCat("no tensor ", PrintableKey(key.bytes())));
  }
  if (info.quarantined) {
    info.arrival = absl::InfiniteDuration();
  } else if (!info.in_l1 && !info.in_l2) {
    info.arrival = core_->l3->reads().Arrival(bytes_to_read, SteadyNow());
  }
  return info;
}

absl::StatusOr<std::vector<JournalEntry>> StoreImpl::Explain(TensorKey key) const {
  const CallScope scope(this);
  CAIRN_RETURN_IF_ERROR(scope.status());
  CAIRN_RETURN_IF_ERROR(ValidateKey(key.bytes()));
  std::vector<JournalEntry> entries;
  for (const JournalRecord& record : core_->journal->Of(Hashed(key.bytes()).hash)) {
    entries.push_back({absl::FromUnixMillis(record.unix_ms), record.decision, record.bytes});
  }
  return entries;
}

absl::StatusOr<ScanPage> StoreImpl::Scan(std::string_view key_prefix, std::string_view after,
                                         size_t limit) const {
  const CallScope scope(this);
  CAIRN_RETURN_IF_ERROR(scope.status());
  if (limit == 0) return absl::InvalidArgumentError("a scan of 0 tensors");
  const int64_t now = core_->NowUnixMs();
  // The smallest limit + 1 keys seen so far: the one too many tells whether there are more.
  std::map<std::string, TensorInfo> smallest;
  core_->directory->ForEach([&](const Entry& entry, const TensorInfo& info) {
    if (entry.fingerprint_id() != core_->fingerprint_id || entry.Expired(now)) return;
    if (!StartsWith(entry.key(), key_prefix) || entry.key() <= after) return;
    if (smallest.size() > limit) {
      if (entry.key() >= smallest.rbegin()->first) return;
      smallest.erase(std::prev(smallest.end()));
    }
    smallest.emplace(entry.key(), info);
  });
  ScanPage page;
  page.more = smallest.size() > limit;
  if (page.more) smallest.erase(std::prev(smallest.end()));
  for (auto& [key, info] : smallest) page.entries.push_back({key, info});
  return page;
}

absl::Status StoreImpl::CopyKvBlocks(StreamRef stream, const KvShape& shape, const KvTarget& target,
                                     const KvSource& source) {
  const CallScope scope(this);
  CAIRN_RETURN_IF_ERROR(scope.status());
  CAIRN_ASSIGN_OR_RETURN(Gpu* const gpu, FindGpu(core_->gpus, /*ordinal=*/std::nullopt, stream));
  return CopyKvBlocksOnDevice(*gpu->device, stream, shape, target, source);
}

absl::Status StoreImpl::RegisterMemory(absl::Span<std::byte> memory) {
  const CallScope scope(this);
  CAIRN_RETURN_IF_ERROR(scope.status());
  if (memory.empty() || reinterpret_cast<uintptr_t>(memory.data()) % kBlockBytes != 0 ||
      memory.size() % kBlockBytes != 0) {
    return absl::InvalidArgumentError(absl::StrCat("memory of ", memory.size(),
                                                   " bytes is not in whole blocks of ", kBlockBytes,
                                                   ", or not aligned to one"));
  }
  return core_->io->RegisterMemory(memory);
}

absl::Status StoreImpl::UnregisterMemory(absl::Span<std::byte> memory) {
  const CallScope scope(this);
  CAIRN_RETURN_IF_ERROR(scope.status());
  return core_->io->UnregisterMemory(memory);
}

}  // namespace cairn
