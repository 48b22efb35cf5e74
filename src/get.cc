// Get: in L2, pin and return. Under way, wait for it. Only on L3, find room, start the fill, wait.

#include <utility>

#include "absl/strings/str_cat.h"
#include "src/base/status_macros.h"
#include "src/base/strings.h"
#include "src/store_impl.h"

namespace cairn {

absl::Status StoreImpl::NotFound(const HashedKey& key) {
  return absl::NotFoundError(absl::StrCat("no tensor ", PrintableKey(key.key)));
}

absl::Status StoreImpl::Quarantined(const HashedKey& key) const {
  return absl::DataLossError(
      absl::StrCat("tensor ", PrintableKey(key.key),
                   " is quarantined: its bytes on L3 could not be read or did not match their "
                   "checksum; put it again"));
}

void StoreImpl::CountGet(Level found_at, TensorClass tensor_class, uint64_t bytes, Deadline start) {
  core_->stats.CountHit(found_at, tensor_class, bytes, MicrosecondsSince(start));
}

absl::StatusOr<TensorHandle> StoreImpl::Get(TensorKey key, const GetOptions& options) {
  const DemandScope scope(this);
  CAIRN_RETURN_IF_ERROR(scope.status());
  CAIRN_ASSIGN_OR_RETURN(Gpu* const gpu, Wanted(options));
  CAIRN_RETURN_IF_ERROR(ValidateKey(key.bytes()));
  const HashedKey hashed = Hashed(key.bytes());
  Asked(key);
  Predict(key, ReadStream::kAhead);
  const Deadline deadline = DeadlineAfter(options.timeout);
  if (gpu != nullptr) return GetInL1(hashed, gpu, options.consumer, deadline);
  return GetBefore(hashed, deadline);
}

absl::StatusOr<TensorHandle> StoreImpl::GetBefore(const HashedKey& key, Deadline deadline) {
  absl::StatusOr<TensorHandle> handle = FindOrFill(key, deadline);
  if (!handle.ok()) core_->stats.CountUnserved(handle.status());
  return handle;
}

absl::StatusOr<TensorHandle> StoreImpl::FindOrFill(const HashedKey& key, Deadline deadline) {
  const Deadline start = SteadyNow();
  FillWait wait(core_->directory.get());
  // Each turn after the first means that the tensor was replaced or evicted between two looks.
  while (true) {
    FillWaiter* waiter = wait.NewWaiter();
    const Directory::Lookup lookup = core_->directory->Acquire(key, core_->NowUnixMs(), waiter);
    if (lookup.found == Directory::Found::kJoined) {
      JoinedFill(lookup);
      break;
    }
    FillWait::Discard(waiter);
    if (lookup.found == Directory::Found::kMiss) return NotFound(key);
    if (lookup.found == Directory::Found::kQuarantined) return Quarantined(key);
    if (lookup.found == Directory::Found::kPinned) {
      CountGet(Level::kL2Pinned, lookup.entry->tensor_class(), lookup.bytes, start);
      return core_->NewHandle(lookup.pin(), Level::kL2Pinned);
    }
    CAIRN_ASSIGN_OR_RETURN(const Extent target, core_->evictor->ReserveL2(lookup.bytes, deadline));
    IoBatch batch;
    waiter = wait.NewWaiter();
    if (BeginFill(key, target, waiter, batch)) {
      SubmitBatch(batch);
      BeginPrefetches();
      break;
    }
    FillWait::Discard(waiter);
    if (SteadyNow() >= deadline) {
      return absl::DeadlineExceededError(
          absl::StrCat("tensor ", PrintableKey(key.key), " kept being replaced"));
    }
  }
  absl::Status status;
  Pin pin;
  if (!wait.Wait(deadline, &status, &pin)) {
    return absl::DeadlineExceededError(
        absl::StrCat("tensor ", PrintableKey(key.key), " is still being loaded"));
  }
  CAIRN_RETURN_IF_ERROR(status);
  CountGet(Level::kL3Nvme, pin.entry->tensor_class(), pin.entry->bytes(), start);
  return core_->NewHandle(pin, Level::kL3Nvme);
}

absl::StatusOr<Gpu*> StoreImpl::Wanted(const GetOptions& options) const {
  if (options.want == Level::kL2Pinned) return nullptr;
  if (options.want == Level::kL3Nvme) {
    return absl::InvalidArgumentError("GetOptions::want is L3: a handle is on memory");
  }
  if (core_->options.l1_bytes_max > 0) {
    return FindGpu(core_->gpus, options.gpu, options.consumer);
  }
  return absl::InvalidArgumentError(
      "GetOptions::want is L1, and the store has none: StoreOptions::l1_bytes_max is 0");
}

absl::Status StoreImpl::ValidateKey(std::string_view key) {
  if (key.empty()) return absl::InvalidArgumentError("the key is empty");
  if (key.size() <= TensorKey::kBytesMax) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat("the key ", PrintableKey(key.substr(0, 32)),
                                                 "... has ", key.size(), " bytes, at most ",
                                                 TensorKey::kBytesMax, " are allowed"));
}

bool StoreImpl::BeginFill(const HashedKey& key, Extent target, FillWaiter* waiter, IoBatch& batch) {
  Entry* entry = core_->directory->BeginFill(key, target, waiter, /*prefetch=*/nullptr);
  if (entry == nullptr) {
    core_->l2->Release(target);
    return false;
  }
  StartFill(core_->fill_context(), entry, core_->l2->Address(target), IoPriority::kDemandRead,
            batch);
  return true;
}

void StoreImpl::JoinedFill(const Directory::Lookup& lookup) {
  StatsRecorder::Add(core_->stats.fills_joined);
  if (lookup.raised) core_->io->RegardRaised();
}

}  // namespace cairn
