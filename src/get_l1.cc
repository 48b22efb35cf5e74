// The upper half of a Get that wants the L1 of a GPU: what is in L2, pinned, is copied to L1 by a
// lift, once for all who ask meanwhile. The lower half, up to L2, is as for any other (get.cc,
// get_async.cc).

#include <utility>

#include "absl/strings/str_cat.h"
#include "src/base/status_macros.h"
#include "src/base/strings.h"
#include "src/store_impl.h"

namespace cairn {

TensorHandle StoreImpl::FindInL1(const HashedKey& key, Gpu* gpu) {
  const Deadline start = SteadyNow();
  const Directory::Lookup lookup =
      core_->directory->AcquireInL1(key, gpu, core_->NowUnixMs(), nullptr, /*has_stream=*/false);
  if (lookup.entry == nullptr) return {};
  core_->stats.CountHitInL1(gpu->stats, lookup.entry->tensor_class(), lookup.bytes,
                            MicrosecondsSince(start));
  return core_->NewHandle(lookup.pin(), Level::kL1Gpu);
}

absl::StatusOr<Extent> StoreImpl::ReserveL1(Gpu* gpu, uint64_t bytes, bool may_wait,
                                            Deadline deadline) {
  if (bytes > gpu->l1->bytes_max()) {
    return absl::InvalidArgumentError(
        absl::StrCat("its ", bytes, " bytes are more than L1's ", gpu->l1->bytes_max()));
  }
  return may_wait ? core_->evictor->ReserveL1(gpu, bytes, deadline)
                  : core_->evictor->TryReserveL1(gpu, bytes);
}

absl::StatusOr<Directory::Lookup> StoreImpl::Lift(Entry* entry, Gpu* gpu, Extent target,
                                                  FillWaiter* waiter,
                                                  std::optional<StreamRef> consumer) {
  Directory::Lookup lift =
      core_->directory->BeginLift(entry, gpu, target, waiter, consumer.has_value());
  if (lift.found != Directory::Found::kNeedsFill) {
    gpu->l1->Release(target);
    core_->evictor->RoomMade();
  }
  switch (lift.found) {
    case Directory::Found::kNeedsFill: {
      const absl::Status started = StartLift(core_->fill_context(), lift.l1);
      // A waiter hears of it, and the copy may be gone by now.
      if (!consumer.has_value()) return Directory::Lookup{.found = Directory::Found::kJoined};
      lift.found = Directory::Found::kInFlight;
      if (started.ok()) return lift;
      core_->directory->Unpin(lift.pin());
      return started;
    }
    case Directory::Found::kQuarantined:
      return absl::UnavailableError(
          absl::StrCat("tensor ", PrintableKey(entry->key()),
                       ": an earlier copy to L1 failed, and a handle is still on it"));
    default:
      return lift;
  }
}

absl::StatusOr<TensorHandle> StoreImpl::HandleInL1(Pin pin, Directory::Found found, Level found_at,
                                                   std::optional<StreamRef> consumer) {
  TensorHandle handle = core_->NewHandle(pin, found_at);
  if (found == Directory::Found::kInFlight) {
    CAIRN_RETURN_IF_ERROR(pin.l1->gpu->l1->LetWait(*consumer));
  }
  return handle;
}

absl::StatusOr<TensorHandle> StoreImpl::GetInL1(const HashedKey& key, Gpu* gpu,
                                                std::optional<StreamRef> consumer,
                                                Deadline deadline) {
  const Deadline start = SteadyNow();
  FillWait wait(core_->directory.get());
  FillWaiter* waiter = wait.NewWaiter();
  absl::StatusOr<Directory::Lookup> lookup =
      core_->directory->AcquireInL1(key, gpu, core_->NowUnixMs(), waiter, consumer.has_value());
  Level found_at = Level::kL1Gpu;
  if (lookup->found == Directory::Found::kMiss) {
    FillWait::Discard(waiter);
    CAIRN_ASSIGN_OR_RETURN(const TensorHandle in_l2, GetBefore(key, deadline));
    found_at = in_l2.found_at();
    CAIRN_ASSIGN_OR_RETURN(const Extent target,
                           ReserveL1(gpu, in_l2.view().size, /*may_wait=*/true, deadline));
    waiter = wait.NewWaiter();
    lookup = Lift(in_l2.entry_, gpu, target, waiter, consumer);
  }
  if (!lookup.ok() || lookup->found != Directory::Found::kJoined) FillWait::Discard(waiter);
  CAIRN_RETURN_IF_ERROR(lookup.status());
  Pin pin = lookup->pin();
  if (lookup->found == Directory::Found::kJoined) {
    absl::Status status;
    if (!wait.Wait(deadline, &status, &pin)) {
      status = absl::DeadlineExceededError(
          absl::StrCat("tensor ", PrintableKey(key.key), " is still being copied to L1"));
    }
    // What was found below L1 has been counted there.
    if (!status.ok() && found_at == Level::kL1Gpu) core_->stats.CountUnserved(status);
    CAIRN_RETURN_IF_ERROR(status);
  }
  if (found_at == Level::kL1Gpu) {
    core_->stats.CountHitInL1(gpu->stats, pin.entry->tensor_class(), pin.entry->bytes(),
                              MicrosecondsSince(start));
  }
  return HandleInL1(pin, lookup->found, found_at, consumer);
}

}  // namespace cairn
