// GetAsync and Prefetch: as Get, with nobody asleep. What finds no room in L2 at once waits for it
// on the loads worker.

#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "src/base/check.h"
#include "src/base/status_macros.h"
#include "src/base/strings.h"
#include "src/store_impl.h"

namespace cairn {

// One tensor of an asynchronous Get, from the call to its end. Owns itself.
class AsyncGet final : public FillWaiter {
 public:
  using End = absl::AnyInvocable<void(absl::StatusOr<TensorHandle>) &&>;

  AsyncGet(StoreImpl* store, std::string_view key, Deadline deadline, End end)
      : store_(store),
        key_(key),
        hashed_(store->Hashed(key_)),
        deadline_(deadline),
        start_(SteadyNow()),
        end_(std::move(end)) {}

  const HashedKey& key() const { return hashed_; }
  Deadline deadline() const { return deadline_; }

  void OnFilled(absl::Status status, Entry* entry) override {
    if (!status.ok()) return Finish(std::move(status));
    FinishWith(entry, Level::kL3Nvme);
  }
  void FinishWith(Entry* entry, Level found_at) {
    store_->CountGet(found_at, entry->bytes(), start_);
    Finish(store_->core_->NewHandle(entry, found_at));
  }
  void Finish(absl::StatusOr<TensorHandle> result) {
    End end = std::move(end_);
    delete this;
    std::move(end)(std::move(result));
  }

 private:
  StoreImpl* const store_;
  const std::string key_;
  const HashedKey hashed_;
  const Deadline deadline_;
  const Deadline start_;
  End end_;
};

void StoreImpl::RunGet(AsyncGet* get, bool may_wait, IoBatch& batch) {
  const HashedKey& key = get->key();
  while (true) {
    const Directory::Lookup lookup = core_->directory->Acquire(key, core_->NowUnixMs(), get);
    switch (lookup.found) {
      case Directory::Found::kMiss:
        return get->Finish(NotFound(key));
      case Directory::Found::kQuarantined:
        return get->Finish(Quarantined(key));
      case Directory::Found::kPinned:
        return get->FinishWith(lookup.entry, Level::kL2Pinned);
      case Directory::Found::kJoined:
        StatsRecorder::Add(core_->stats.fills_joined);
        return;
      case Directory::Found::kNeedsFill:
        break;
    }
    const absl::StatusOr<Extent> target =
        may_wait ? core_->evictor->ReserveL2(lookup.bytes, get->deadline())
                 : core_->evictor->TryReserveL2(lookup.bytes);
    if (!target.ok()) {
      if (may_wait || !absl::IsResourceExhausted(target.status())) {
        return get->Finish(target.status());
      }
      Worker::Task task = [this, get] {
        IoBatch late;
        RunGet(get, /*may_wait=*/true, late);
        SubmitBatch(late);
      };
      if (!core_->loads->TryPost(task)) get->Finish(target.status());
      return;
    }
    if (BeginFill(key, *target, get, IoPriority::kDemandRead, batch)) return;
  }
}

void StoreImpl::SubmitBatch(IoBatch& batch) {
  if (batch.empty()) return;
  core_->io->Submit(batch);
  batch.clear();
}

void StoreImpl::SubmitFullBatch(IoBatch& batch) {
  constexpr size_t kBatchOps = 8;
  if (batch.size() >= kBatchOps) SubmitBatch(batch);
}

absl::Status StoreImpl::GetAsync(TensorKey key, const GetOptions& options, GetCallback done) {
  const CallScope scope(this);
  CAIRN_RETURN_IF_ERROR(scope.status());
  CAIRN_RETURN_IF_ERROR(ValidateGet(key, options));
  if (async_gets_.fetch_add(1) >= core_->options.async_queue_max) {
    async_gets_.fetch_sub(1);
    return absl::ResourceExhaustedError(absl::StrCat("more than ", core_->options.async_queue_max,
                                                     " asynchronous gets are under way"));
  }
  StatsRecorder::Add(core_->stats.gets);
  auto end = [this, done = std::move(done)](absl::StatusOr<TensorHandle> result) mutable {
    core_->callbacks->Post([this, done = std::move(done), result = std::move(result)]() mutable {
      async_gets_.fetch_sub(1);
      std::move(done)(std::move(result));
    });
  };
  IoBatch batch;
  RunGet(new AsyncGet(this, key.bytes(), DeadlineAfter(options.timeout), std::move(end)),
         /*may_wait=*/false, batch);
  SubmitBatch(batch);
  return absl::OkStatus();
}

absl::Status StoreImpl::GetAsync(absl::Span<const TensorKey> keys, const GetOptions& options,
                                 CompletionQueue& queue, uint64_t first_tag) {
  const CallScope scope(this);
  CAIRN_RETURN_IF_ERROR(scope.status());
  for (const TensorKey key : keys) CAIRN_RETURN_IF_ERROR(ValidateGet(key, options));
  CAIRN_RETURN_IF_ERROR(queue.Reserve(keys.size()));
  StatsRecorder::Add(core_->stats.gets, keys.size());
  const Deadline deadline = DeadlineAfter(options.timeout);
  IoBatch batch;
  for (size_t i = 0; i < keys.size(); ++i) {
    auto end = [&queue, tag = first_tag + i](absl::StatusOr<TensorHandle> result) {
      Completion completion = {.tag = tag, .status = result.status(), .handle = {}};
      if (result.ok()) completion.handle = *std::move(result);
      queue.Push(std::move(completion));
    };
    RunGet(new AsyncGet(this, keys[i].bytes(), deadline, std::move(end)), /*may_wait=*/false,
           batch);
    SubmitFullBatch(batch);
  }
  SubmitBatch(batch);
  return absl::OkStatus();
}

size_t StoreImpl::Prefetch(absl::Span<const TensorKey> keys, const PrefetchOptions& options) {
  const CallScope scope(this);
  if (!scope.status().ok() || options.to != Level::kL2Pinned) return 0;
  // Counts itself out when its fill ends.
  struct Prefetched final : FillWaiter {
    explicit Prefetched(StoreImpl* of) : store(of) {}
    void OnFilled(absl::Status, Entry* entry) override {
      if (entry != nullptr) store->core_->directory->Unpin(entry);
      store->prefetches_.fetch_sub(1);
      delete this;
    }
    StoreImpl* const store;
  };
  size_t taken = 0;
  IoBatch batch;
  for (const TensorKey tensor : keys) {
    if (!ValidateKey(tensor.bytes()).ok()) continue;
    const HashedKey key = Hashed(tensor.bytes());
    const Directory::Lookup lookup = core_->directory->Acquire(key, core_->NowUnixMs(), nullptr);
    if (lookup.found == Directory::Found::kPinned) core_->directory->Unpin(lookup.entry);
    if (lookup.found != Directory::Found::kNeedsFill) continue;
    if (prefetches_.fetch_add(1) < core_->options.prefetch_queue_max) {
      const absl::StatusOr<Extent> target = core_->evictor->TryReserveL2(lookup.bytes);
      auto* waiter = new Prefetched(this);
      if (target.ok() && BeginFill(key, *target, waiter, IoPriority::kPrefetch, batch)) {
        StatsRecorder::Add(core_->stats.prefetches);
        ++taken;
        SubmitFullBatch(batch);
        continue;
      }
      delete waiter;
    }
    prefetches_.fetch_sub(1);
    StatsRecorder::Add(core_->stats.prefetches_dropped);
  }
  SubmitBatch(batch);
  return taken;
}

}  // namespace cairn
