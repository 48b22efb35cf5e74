#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <utility>

#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "cairn/tensor.h"
#include "src/base/mutex.h"
#include "src/base/thread.h"
#include "tiers/allocator.h"
#include "tiers/device.h"
#include "tiers/fragmentation.h"

namespace cairn {

// L1: extents of one arena of a device's memory, and the copies between that memory and the host's,
// each direction on a stream of its own, so that both go on at once. Every extent starts on a
// 4096-byte boundary of the arena. Thread-safe.
class GpuTier {
 public:
  // kResourceExhausted when the device has not so much memory.
  static absl::StatusOr<std::unique_ptr<GpuTier>> Create(uint64_t bytes_max, Device* device);
  // Waits for the copies.
  ~GpuTier();

  // kResourceExhausted when no free run is long enough now.
  absl::StatusOr<Extent> Reserve(uint64_t bytes) ABSL_LOCKS_EXCLUDED(mutex_);
  void Release(Extent extent) ABSL_LOCKS_EXCLUDED(mutex_);
  std::byte* Address(Extent extent) const { return arena_.data() + extent.offset; }

  // Starts a copy into the extent, from memory that stays as it is until the event is reached.
  absl::StatusOr<std::shared_ptr<DeviceEvent>> StartCopyUp(Extent target,
                                                           absl::Span<const std::byte> source);
  // Calls `done` once when a copy has come to its end, on a thread of the tier.
  using Done = absl::AnyInvocable<void(absl::Status) &&>;
  void WhenCopied(std::shared_ptr<DeviceEvent> copied, Done done)
      ABSL_LOCKS_EXCLUDED(copies_mutex_);
  // What `consumer` is given from here on waits for the copies that were started before.
  absl::Status LetWait(StreamRef consumer);
  // kInvalidArgument for a stream of another device.
  absl::Status CheckStream(StreamRef stream) const {
    return ValidateStream(stream, device_->ordinal());
  }

  // Blocks the calling thread for a copy in either direction. Sources are read behind what
  // `producer` was given before.
  absl::Status CopyAndWait(CopyDirection direction, absl::Span<const CopyPiece> pieces,
                           std::optional<StreamRef> producer);

  // Behind the copies that were started into L1 before.
  absl::Status CopyToHost(const std::byte* source, absl::Span<std::byte> target) {
    const CopyPiece piece = {target.data(), source, target.size()};
    return CopyAndWait(CopyDirection::kToHost, {&piece, 1}, up_);
  }

  // Waits until every copy that was started is done, and `done` has returned.
  void Drain() ABSL_LOCKS_EXCLUDED(copies_mutex_);

  uint64_t bytes_max() const { return arena_.size(); }
  uint64_t bytes_used() const ABSL_LOCKS_EXCLUDED(mutex_);
  uint64_t largest_free_bytes() const ABSL_LOCKS_EXCLUDED(mutex_);
  Fragmentation fragmentation() const ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  struct StartedCopy {
    std::shared_ptr<DeviceEvent> copied;
    Done done;
  };

  GpuTier(Device* device, absl::Span<std::byte> arena, std::unique_ptr<SpaceAllocator> allocator)
      : device_(device), arena_(arena), mix_(arena.size()), allocator_(std::move(allocator)) {}
  absl::Status Start();
  void EndCopies() ABSL_LOCKS_EXCLUDED(copies_mutex_);

  // Constant once it has started.
  Device* const device_;
  const absl::Span<std::byte> arena_;
  std::optional<StreamRef> up_;
  std::optional<StreamRef> down_;

  SizeMix mix_;  // Provides its own synchronization.

  mutable Mutex mutex_;
  const std::unique_ptr<SpaceAllocator> allocator_ ABSL_PT_GUARDED_BY(mutex_);

  Mutex copies_mutex_;
  CondVar copies_changed_;
  std::deque<StartedCopy> copies_ ABSL_GUARDED_BY(copies_mutex_);  // The first is being waited for.
  bool stop_ ABSL_GUARDED_BY(copies_mutex_) = false;

  Thread ender_;
};

}  // namespace cairn
