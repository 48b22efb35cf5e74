// GetAsync: as Get, with nobody asleep. What finds no room in L2 or L1 at once waits for it on the
// loads worker, one after the other; who waits, for room or a load, leaves its end with
// AsyncDeadlines.

#include <algorithm>
#include <optional>
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
  using End = AsyncDeadlines::End;

  // In the L1 of `gpu`, or, null, in L2.
  AsyncGet(StoreImpl* store, std::string_view key, Gpu* gpu, std::optional<StreamRef> consumer,
           Deadline deadline, End end)
      : store_(store),
        key_(key),
        hashed_(store->Hashed(key_)),
        gpu_(gpu),
        consumer_(consumer),
        deadline_(deadline),
        start_(SteadyNow()),
        end_(std::move(end)) {}

  const HashedKey& key() const { return hashed_; }
  Gpu* gpu() const { return gpu_; }
  std::optional<StreamRef> consumer() const { return consumer_; }
  Deadline deadline() const { return deadline_; }

  // It waits for L1 from here on, and found the tensor where it says.
  void ExpectInL1(Level found_at) {
    expected_at_ = Level::kL1Gpu;
    found_at_ = found_at;
  }

  void OnFilled(absl::Status status, Pin pin) override {
    if (!status.ok()) return Finish(std::move(status));
    if (expected_at_ == Level::kL2Pinned) return OnL2(pin.entry, Level::kL3Nvme);
    OnL1(pin, Directory::Found::kPinned);
  }
  void BeforeWaiting() override { BeginWaiting(AsyncDeadlines::Awaited::kLoad); }
  void BeforeWaitingForRoom(Level level) {
    BeginWaiting(level == Level::kL1Gpu ? AsyncDeadlines::Awaited::kRoomInL1
                                        : AsyncDeadlines::Awaited::kRoomInL2);
  }
  void ExpectInL2() { expected_at_ = Level::kL2Pinned; }
  // It is in L2, pinned.
  void OnL2(Entry* entry, Level found_at) {
    NoteHit(found_at, *entry);
    if (gpu_ == nullptr) return Finish(store_->core_->NewHandle({entry}, found_at));
    ExpectInL1(found_at);
    store_->RunLift(this, entry, /*may_wait=*/false);
  }
  // It is in L1, pinned, or its copy is in flight.
  void OnL1(Pin pin, Directory::Found found) {
    if (found_at_ == Level::kL1Gpu) NoteHit(found_at_, *pin.entry);
    Finish(store_->HandleInL1(pin, found, found_at_, consumer_));
  }
  void Finish(absl::StatusOr<TensorHandle> result) {
    End end = place_.number == 0 ? std::move(end_) : deadlines().Take(place_);
    // Else it was late, and the handle lets go of the tensor here.
    if (end) CountEnd(result.status());
    delete this;
    if (end) std::move(end)(std::move(result));
  }

 private:
  // Where it was found first: that is counted when the call ends, if that is not too late.
  struct Hit {
    Level found_at;
    TensorClass tensor_class;
    uint64_t bytes;
    uint64_t us;
  };
  void BeginWaiting(AsyncDeadlines::Awaited awaited) {
    if (place_.number != 0) return deadlines().Await(place_, awaited);
    place_ = deadlines().Keep(deadline_, key_, awaited, std::move(end_));
  }
  void NoteHit(Level found_at, const Entry& entry) {
    hit_ = {found_at, entry.tensor_class(), entry.bytes(), MicrosecondsSince(start_)};
  }
  void CountEnd(const absl::Status& status) const {
    StatsRecorder& stats = store_->core_->stats;
    if (!hit_) return stats.CountUnserved(status);
    if (hit_->found_at == Level::kL1Gpu) {
      return stats.CountHitInL1(gpu_->stats, hit_->tensor_class, hit_->bytes, hit_->us);
    }
    stats.CountHit(hit_->found_at, hit_->tensor_class, hit_->bytes, hit_->us);
  }
  AsyncDeadlines& deadlines() const { return *store_->core_->async_deadlines; }

  StoreImpl* const store_;
  const std::string key_;
  const HashedKey hashed_;
  Gpu* const gpu_;
  const std::optional<StreamRef> consumer_;
  Level expected_at_ = Level::kL2Pinned;
  Level found_at_ = Level::kL1Gpu;
  const Deadline deadline_;
  const Deadline start_;
  std::optional<Hit> hit_;
  End end_;  // Until it waits.
  AsyncDeadlines::Place place_;
};

void StoreImpl::RunGet(AsyncGet* get, bool may_wait, IoBatch& batch) {
  const HashedKey& key = get->key();
  if (get->gpu() != nullptr && RunGetInL1(get)) return;
  while (true) {
    const Directory::Lookup lookup = core_->directory->Acquire(key, core_->NowUnixMs(), get);
    switch (lookup.found) {
      case Directory::Found::kMiss:
        return get->Finish(NotFound(key));
      case Directory::Found::kQuarantined:
        return get->Finish(Quarantined(key));
      case Directory::Found::kPinned:
        return get->OnL2(lookup.entry, Level::kL2Pinned);
      case Directory::Found::kJoined:
        return JoinedFill(lookup);
      case Directory::Found::kInFlight:
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
      get->BeforeWaitingForRoom(Level::kL2Pinned);
      Worker::Task task = [this, get] {
        IoBatch late;
        RunGet(get, /*may_wait=*/true, late);
        SubmitBatch(late);
      };
      if (!core_->loads->TryPost(task)) get->Finish(target.status());
      return;
    }
    if (BeginFill(key, *target, get, batch)) return;
  }
}

bool StoreImpl::RunGetInL1(AsyncGet* get) {
  // Who is woken before this returns must know what for.
  get->ExpectInL1(Level::kL1Gpu);
  const Directory::Lookup lookup = core_->directory->AcquireInL1(
      get->key(), get->gpu(), core_->NowUnixMs(), get, get->consumer().has_value());
  if (lookup.found == Directory::Found::kJoined) return true;
  if (lookup.entry == nullptr) {
    get->ExpectInL2();
    return false;
  }
  get->OnL1(lookup.pin(), lookup.found);
  return true;
}

void StoreImpl::RunLift(AsyncGet* get, Entry* entry, bool may_wait) {
  const absl::StatusOr<Extent> target =
      ReserveL1(get->gpu(), entry->bytes(), may_wait, get->deadline());
  if (!target.ok()) {
    if (!may_wait && absl::IsResourceExhausted(target.status())) {
      get->BeforeWaitingForRoom(Level::kL1Gpu);
      Worker::Task task = [this, get, entry] { RunLift(get, entry, /*may_wait=*/true); };
      if (core_->loads->TryPost(task)) return;
    }
    core_->directory->Unpin(entry);
    return get->Finish(target.status());
  }
  const absl::StatusOr<Directory::Lookup> lift =
      Lift(entry, get->gpu(), *target, get, get->consumer());
  // A waiter that has joined may be gone by now.
  if (!lift.ok()) {
    get->Finish(lift.status());
  } else if (lift->found != Directory::Found::kJoined) {
    get->OnL1(lift->pin(), lift->found);
  }
  core_->directory->Unpin(entry);
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

absl::Status StoreImpl::CheckLateGets() const {
  const uint64_t late = core_->async_deadlines->late_count();
  if (late < core_->options.async_queue_max) return absl::OkStatus();
  return absl::ResourceExhaustedError(absl::StrCat(
      late, " asynchronous gets that have ended late still wait for room or the device"));
}

absl::Status StoreImpl::GetAsync(TensorKey key, const GetOptions& options, GetCallback done) {
  const DemandScope scope(this);
  CAIRN_RETURN_IF_ERROR(scope.status());
  CAIRN_ASSIGN_OR_RETURN(Gpu* const gpu, Wanted(options));
  CAIRN_RETURN_IF_ERROR(ValidateKey(key.bytes()));
  CAIRN_RETURN_IF_ERROR(CheckLateGets());
  if (async_gets_.fetch_add(1) >= core_->options.async_queue_max) {
    async_gets_.fetch_sub(1);
    return absl::ResourceExhaustedError(absl::StrCat("more than ", core_->options.async_queue_max,
                                                     " asynchronous gets are under way"));
  }
  Asked(key);
  Predict(key, ReadStream::kAhead);
  auto end = [this, done = std::move(done)](absl::StatusOr<TensorHandle> result) mutable {
    core_->callbacks->Post([this, done = std::move(done), result = std::move(result)]() mutable {
      async_gets_.fetch_sub(1);
      std::move(done)(std::move(result));
    });
  };
  IoBatch batch;
  RunGet(new AsyncGet(this, key.bytes(), gpu, options.consumer, DeadlineAfter(options.timeout),
                      std::move(end)),
         /*may_wait=*/false, batch);
  SubmitBatch(batch);
  return absl::OkStatus();
}

absl::Status StoreImpl::GetAsync(absl::Span<const TensorKey> keys, const GetOptions& options,
                                 CompletionQueue& queue, uint64_t first_tag) {
  const DemandScope scope(this);
  CAIRN_RETURN_IF_ERROR(scope.status());
  CAIRN_ASSIGN_OR_RETURN(Gpu* const gpu, Wanted(options));
  for (const TensorKey key : keys) CAIRN_RETURN_IF_ERROR(ValidateKey(key.bytes()));
  CAIRN_RETURN_IF_ERROR(CheckLateGets());
  CAIRN_RETURN_IF_ERROR(queue.Reserve(keys.size()));
  const Deadline deadline = DeadlineAfter(options.timeout);
  IoBatch batch;
  for (size_t i = 0; i < keys.size(); ++i) {
    auto end = [&queue, tag = first_tag + i](absl::StatusOr<TensorHandle> result) {
      Completion completion = {.tag = tag, .status = result.status(), .handle = {}};
      if (result.ok()) completion.handle = *std::move(result);
      queue.Push(std::move(completion));
    };
    RunGet(new AsyncGet(this, keys[i].bytes(), gpu, options.consumer, deadline, std::move(end)),
           /*may_wait=*/false, batch);
    SubmitFullBatch(batch);
    Asked(keys[i]);
  }
  SubmitBatch(batch);
  if (!keys.empty()) {
    Predict(keys.back(), std::max(keys.size(), ReadStream::kAhead));
  }
  return absl::OkStatus();
}

}  // namespace cairn
