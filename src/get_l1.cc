// The upper half of a Get that wants L1: what is in L2, pinned, is copied to L1 by a lift, once for
// all who ask meanwhile. The lower half, up to L2, is as for any other (get.cc, get_async.cc).

#include <utility>

#include "absl/strings/str_cat.h"
#include "src/base/status_macros.h"
#include "src/base/strings.h"
#include "src/store_impl.h"

namespace cairn {

TensorHandle StoreImpl::FindInL1(const HashedKey& key) {
  const Deadline start = SteadyNow();
  const Directory::Lookup lookup =
      core_->directory->AcquireInL1(key, core_->NowUnixMs(), nullptr, /*has_stream=*/false);
  if (lookup.entry == nullptr) return {};
  CountGet(Level::kL1Gpu, lookup.entry->tensor_class(), lookup.bytes, start);
  return core_->NewHandle(lookup.entry, Level::kL1Gpu, Level::kL1Gpu);
}

absl::StatusOr<Extent> StoreImpl::ReserveL1(uint64_t bytes, bool may_wait, Deadline deadline) {
  if (bytes > core_->l1->bytes_max()) {
    return absl::InvalidArgumentError(
        absl::StrCat("its ", bytes, " bytes are more than L1's ", core_->l1->bytes_max()));
  }
  return may_wait ? core_->evictor->ReserveL1(bytes, deadline)
                  : core_->evictor->TryReserveL1(bytes);
}

absl::StatusOr<Directory::Found> StoreImpl::Lift(Entry* entry, Extent target, FillWaiter* waiter,
                                                 std::optional<StreamRef> consumer) {
  const Directory::Found found =
      core_->directory->BeginLift(entry, target, waiter, consumer.has_value());
  if (found != Directory::Found::kNeedsFill) {
    core_->l1->Release(target);
    core_->evictor->RoomMade();
  }
  switch (found) {
    case Directory::Found::kNeedsFill: {
      const absl::Status started = StartLift(core_->fill_context(), entry);
      // A waiter hears of it.
      if (!consumer.has_value()) return Directory::Found::kJoined;
      if (started.ok()) return Directory::Found::kInFlight;
      core_->directory->UnpinL1(entry);
      return started;
    }
    case Directory::Found::kQuarantined:
      return absl::UnavailableError(
          absl::StrCat("tensor ", PrintableKey(entry->key()),
                       ": an earlier copy to L1 failed, and a handle is still on it"));
    default:
      return found;
  }
}

absl::StatusOr<TensorHandle> StoreImpl::HandleInL1(Entry* entry, Directory::Found found,
                                                   Level found_at,
                                                   std::optional<StreamRef> consumer) {
  TensorHandle handle = core_->NewHandle(entry, Level::kL1Gpu, found_at);
  if (found == Directory::Found::kInFlight) CAIRN_RETURN_IF_ERROR(core_->l1->LetWait(*consumer));
  return handle;
}

absl::StatusOr<TensorHandle> StoreImpl::GetInL1(const HashedKey& key, const GetOptions& options,
                                                Deadline deadline) {
  const Deadline start = SteadyNow();
  FillWait wait(core_->directory.get(), Level::kL1Gpu);
  FillWaiter* waiter = wait.NewWaiter();
  const Directory::Lookup lookup =
      core_->directory->AcquireInL1(key, core_->NowUnixMs(), waiter, options.consumer.has_value());
  Level found_at = Level::kL1Gpu;
  absl::StatusOr<Directory::Found> found = lookup.found;
  Entry* entry = lookup.entry;
  if (lookup.found == Directory::Found::kMiss) {
    FillWait::Discard(waiter);
    CAIRN_ASSIGN_OR_RETURN(const TensorHandle in_l2, GetBefore(key, deadline));
    found_at = in_l2.found_at();
    CAIRN_ASSIGN_OR_RETURN(const Extent target,
                           ReserveL1(in_l2.view().size, /*may_wait=*/true, deadline));
    entry = in_l2.entry_;
    waiter = wait.NewWaiter();
    found = Lift(entry, target, waiter, options.consumer);
  }
  if (!found.ok() || *found != Directory::Found::kJoined) FillWait::Discard(waiter);
  CAIRN_RETURN_IF_ERROR(found.status());
  if (*found == Directory::Found::kJoined) {
    absl::Status status;
    if (!wait.Wait(deadline, &status, &entry)) {
      status = absl::DeadlineExceededError(
          absl::StrCat("tensor ", PrintableKey(key.key), " is still being copied to L1"));
    }
    // What was found below L1 has been counted there.
    if (!status.ok() && found_at == Level::kL1Gpu) core_->stats.CountUnserved(status);
    CAIRN_RETURN_IF_ERROR(status);
  }
  if (found_at == Level::kL1Gpu)
    CountGet(Level::kL1Gpu, entry->tensor_class(), entry->bytes(), start);
  return HandleInL1(entry, *found, found_at, options.consumer);
}

}  // namespace cairn
