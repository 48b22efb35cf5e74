// Prefetch and WillNeed: as GetAsync, with nobody who waits, and never for room.

#include <optional>
#include <utility>

#include "src/base/status_macros.h"
#include "src/store_impl.h"

namespace cairn {

// One tensor on its way up. Counts itself out and deletes itself when it is there, or cannot be.
class PrefetchedTensor final : public FillWaiter {
 public:
  // To L1 of `gpu`, or, null, to L2.
  PrefetchedTensor(StoreImpl* store, PrefetchQueue* queue, Gpu* gpu, uint64_t bytes)
      : store_(store), queue_(queue), gpu_(gpu), bytes_(bytes) {}

  void OnFilled(absl::Status /*status*/, Pin pin) override {
    if (!lifting_) queue_->Arrived(bytes_);
    if (pin.entry == nullptr) return End();
    if (!lifting_ && gpu_ != nullptr) return LiftFrom(pin.entry);
    store_->core_->directory->Unpin(pin);
    End();
  }
  // It is in L2, pinned.
  void LiftFrom(Entry* entry) {
    lifting_ = true;
    Directory& directory = *store_->core_->directory;
    const absl::StatusOr<Extent> target =
        store_->ReserveL1(gpu_, entry->bytes(), /*may_wait=*/false, Deadline::min());
    if (target.ok()) {
      const absl::StatusOr<Directory::Lookup> lift =
          store_->Lift(entry, gpu_, *target, this, /*consumer=*/std::nullopt);
      if (lift.ok() && lift->found == Directory::Found::kJoined) return directory.Unpin(entry);
      if (lift.ok()) directory.Unpin(lift->pin());
    }
    directory.Unpin(entry);
    End();
  }

 private:
  void End() {
    store_->prefetches_.fetch_sub(1);
    store_->BeginPrefetches();
    delete this;
  }

  StoreImpl* const store_;
  PrefetchQueue* const queue_;
  Gpu* const gpu_;
  const uint64_t bytes_;
  bool lifting_ = false;
};

bool StoreImpl::InL1(const HashedKey& key, Gpu* gpu) {
  const Directory::Lookup lookup =
      core_->directory->AcquireInL1(key, gpu, core_->NowUnixMs(), nullptr, /*has_stream=*/false);
  if (lookup.entry != nullptr) core_->directory->Unpin(lookup.pin());
  return lookup.found != Directory::Found::kMiss;
}

bool StoreImpl::BeginPrefetch(const HashedKey& key, Extent target, PrefetchedTensor* waiter,
                              IoPriority priority, PrefetchQueue& queue, IoBatch& batch) {
  Entry* entry = core_->directory->BeginFill(key, target, waiter, &queue);
  if (entry == nullptr) {
    core_->l2->Release(target);
    return false;
  }
  StartPrefetch(core_->fill_context(), entry, core_->l2->Address(target), priority, batch);
  return true;
}

bool StoreImpl::PrefetchOne(const HashedKey& key, Gpu* gpu, IoPriority priority,
                            PrefetchQueue& queue, IoBatch& batch) {
  const Directory::Lookup lookup = core_->directory->Acquire(key, core_->NowUnixMs(), nullptr);
  const bool in_l2 = lookup.found == Directory::Found::kPinned;
  if (in_l2 && gpu == nullptr) core_->directory->Unpin(lookup.entry);
  if (lookup.found != Directory::Found::kNeedsFill && !(in_l2 && gpu != nullptr)) return false;
  const bool refused = !in_l2 && queue.Refuses(SteadyNow());
  if (prefetches_.fetch_add(1) < core_->options.prefetch_queue_max && !refused) {
    auto* const waiter = new PrefetchedTensor(this, &queue, gpu, lookup.bytes);
    if (in_l2) {
      waiter->LiftFrom(lookup.entry);
      return true;
    }
    const absl::StatusOr<Extent> target = core_->evictor->TryReserveL2(lookup.bytes);
    if (target.ok()) {
      queue.Departed(lookup.bytes);
      if (BeginPrefetch(key, *target, waiter, priority, queue, batch)) return true;
      queue.Arrived(lookup.bytes);
    }
    delete waiter;
  } else if (in_l2) {
    core_->directory->Unpin(lookup.entry);
  }
  prefetches_.fetch_sub(1);
  StatsRecorder::Add(core_->stats.prefetches_dropped);
  if (refused) StatsRecorder::Add(core_->stats.prefetches_refused);
  return false;
}

bool StoreImpl::BeginNextPrefetch(IoBatch& batch) {
  if (const std::optional<PrefetchQueue::Want> want = core_->prefetches->Pop(SteadyNow())) {
    const HashedKey key = Hashed(want->key);
    // Add was asked for one that is there.
    Gpu* const gpu =
        want->to == Level::kL1Gpu ? *FindGpu(core_->gpus, want->gpu, std::nullopt) : nullptr;
    if (gpu != nullptr && InL1(key, gpu)) return true;
    // What is due by now is about to be asked for, and who asks would wait for it behind all
    // writes; it delays other demand by no more than what may be in flight.
    const IoPriority priority = want->due ? IoPriority::kDemandRead : IoPriority::kPrefetch;
    if (PrefetchOne(key, gpu, priority, *core_->prefetches, batch)) {
      StatsRecorder::Add(core_->stats.prefetches);
    }
    return true;
  }
  if (!core_->prefetches->empty() || core_->predictions->empty()) return false;
  const std::optional<PrefetchQueue::Want> guess = core_->predictions->Pop(SteadyNow());
  if (!guess.has_value()) return false;
  if (PrefetchOne(Hashed(guess->key), /*gpu=*/nullptr, IoPriority::kPrefetch, *core_->predictions,
                  batch)) {
    StatsRecorder::Add(core_->stats.predictions);
  }
  return true;
}

void StoreImpl::BeginPrefetches() {
  if (core_->prefetches->empty() && core_->predictions->empty()) return;
  if (prefetch_turns_.fetch_add(1) > 0) return;
  uint32_t turns = 1;
  do {
    turns = prefetch_turns_.load();
    IoBatch batch;
    while (BeginNextPrefetch(batch)) SubmitFullBatch(batch);
    SubmitBatch(batch);
  } while (prefetch_turns_.fetch_sub(turns) != turns);
}

absl::StatusOr<PrefetchToken> StoreImpl::WillNeed(absl::Span<const TensorKey> keys,
                                                  const WillNeedOptions& options) {
  const DemandScope scope(this);
  CAIRN_RETURN_IF_ERROR(scope.status());
  for (const TensorKey key : keys) CAIRN_RETURN_IF_ERROR(ValidateKey(key.bytes()));
  const bool has_l1 = core_->options.l1_bytes_max > 0;
  if (options.to == Level::kL3Nvme || (options.to == Level::kL1Gpu && !has_l1)) {
    return absl::InvalidArgumentError("WillNeedOptions::to must be L2, or L1 where there is one");
  }
  if (options.to == Level::kL1Gpu) {
    CAIRN_RETURN_IF_ERROR(FindGpu(core_->gpus, options.gpu, std::nullopt).status());
  }
  return core_->prefetches->Add(keys, options, SteadyNow());
}

size_t StoreImpl::Cancel(PrefetchToken token) {
  const CallScope scope(this);
  return core_->prefetches->Cancel(token);
}

size_t StoreImpl::Prefetch(absl::Span<const TensorKey> keys, const PrefetchOptions& options) {
  const CallScope scope(this);
  if (!scope.status().ok()) return 0;
  const absl::StatusOr<Gpu*> gpu = Wanted({.want = options.to, .gpu = options.gpu});
  if (!gpu.ok()) return 0;
  size_t taken = 0;
  IoBatch batch;
  for (const TensorKey tensor : keys) {
    if (!ValidateKey(tensor.bytes()).ok()) continue;
    const HashedKey key = Hashed(tensor.bytes());
    if (*gpu != nullptr && InL1(key, *gpu)) continue;
    if (!PrefetchOne(key, *gpu, IoPriority::kPrefetch, *core_->prefetches, batch)) continue;
    StatsRecorder::Add(core_->stats.prefetches);
    ++taken;
    SubmitFullBatch(batch);
  }
  SubmitBatch(batch);
  return taken;
}

}  // namespace cairn
