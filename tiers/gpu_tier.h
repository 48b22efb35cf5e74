#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "cairn/options.h"
#include "cairn/tensor.h"
#include "src/base/mutex.h"
#include "src/base/thread.h"
#include "tiers/allocator.h"
#include "tiers/device.h"
#include "tiers/extent_owners.h"
#include "tiers/fragmentation.h"
#include "tiers/magazine_allocator.h"
#include "tiers/stream_points.h"

namespace cairn {

// L1: extents of one arena of a device's memory, and the copies between that memory and the host's,
// each direction on a stream of its own, so that both go on at once. Every extent starts on a
// 4096-byte boundary of the arena. Thread-safe.
class GpuTier {
 public:
  // kResourceExhausted when the device has not so much memory.
  static absl::StatusOr<std::unique_ptr<GpuTier>> Create(uint64_t bytes_max, Device* device,
                                                         L1Memory memory = L1Memory::kDevice);
  // Waits for the copies.
  ~GpuTier();

  // kResourceExhausted when no free run is long enough now.
  absl::StatusOr<Extent> Reserve(uint64_t bytes);
  void Release(Extent extent) { ReleaseBehind(extent, {}); }
  // Streams may read it yet: it is free when FreeWhatIsRead finds that none does.
  void ReleaseBehind(Extent extent, StreamReaders readers) ABSL_LOCKS_EXCLUDED(readers_mutex_);
  void FreeWhatIsRead() ABSL_LOCKS_EXCLUDED(readers_mutex_);
  // An extent that nobody but these readers holds belongs to who makes a copy to it next, for
  // `bytes`: StartCopyUp has that wait for them on the device.
  void HandOver(Extent extent, uint64_t bytes, StreamReaders readers)
      ABSL_LOCKS_EXCLUDED(readers_mutex_);
  std::byte* Address(Extent extent) const { return arena_.data() + extent.offset; }

  // Starts a copy into the extent, from memory that stays as it is until the event is reached.
  absl::StatusOr<std::shared_ptr<DeviceEvent>> StartCopyUp(Extent target,
                                                           absl::Span<const std::byte> source)
      ABSL_LOCKS_EXCLUDED(readers_mutex_);
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

  // Waits for a copy to another extent, behind those that were started into L1 before.
  absl::Status Move(Extent from, Extent to, uint64_t bytes) {
    const CopyPiece piece = {Address(to), Address(from), bytes};
    return CopyAndWait(CopyDirection::kWithinDevice, {&piece, 1}, std::nullopt);
  }
  // Behind the copies that were started into L1 before.
  absl::Status CopyToHost(const std::byte* source, absl::Span<std::byte> target) {
    const CopyPiece piece = {target.data(), source, target.size()};
    return CopyAndWait(CopyDirection::kToHost, {&piece, 1}, up_);
  }

  // Waits until every copy that was started is done, and `done` has returned.
  void Drain() ABSL_LOCKS_EXCLUDED(copies_mutex_);

  // Of a device that is a GPU.
  MemoryKind memory_kind() const {
    return memory_ == L1Memory::kManaged ? MemoryKind::kManaged : MemoryKind::kGpu;
  }
  uint64_t bytes_max() const { return arena_.size(); }
  uint64_t bytes_used() const { return allocator_->bytes_used(); }
  // Neither used nor withheld.
  uint64_t bytes_free() const { return allocator_->bytes_free(); }
  uint64_t largest_free_bytes() const { return allocator_->largest_free_bytes(); }
  Fragmentation fragmentation() const;

  ExtentOwners& owners() { return owners_; }
  // For who empties windows of it.
  MagazineAllocator& space() { return *allocator_; }
  const SizeMix& mix() const { return mix_; }

 private:
  struct StartedCopy {
    std::shared_ptr<DeviceEvent> copied;
    Done done;
  };

  GpuTier(Device* device, L1Memory memory, absl::Span<std::byte> arena,
          std::unique_ptr<MagazineAllocator> allocator, ExtentOwners owners)
      : device_(device),
        memory_(memory),
        arena_(arena),
        mix_(arena.size()),
        allocator_(std::move(allocator)),
        owners_(std::move(owners)) {}
  absl::Status Start();
  // Has the stream of copies up wait for who reads what was handed over.
  absl::Status WaitForReaders(Extent target) ABSL_LOCKS_EXCLUDED(readers_mutex_);
  void EndCopies() ABSL_LOCKS_EXCLUDED(copies_mutex_);

  // Constant once it has started.
  Device* const device_;
  const L1Memory memory_;
  const absl::Span<std::byte> arena_;
  std::optional<StreamRef> up_;
  std::optional<StreamRef> down_;

  // Provide their own synchronization.
  SizeMix mix_;
  const std::unique_ptr<MagazineAllocator> allocator_;
  ExtentOwners owners_;

  struct Leaving {
    Extent extent;
    StreamReaders readers;
  };
  Mutex readers_mutex_;
  std::vector<Leaving> leaving_ ABSL_GUARDED_BY(readers_mutex_);
  // By offset. From HandOver until the copy is ordered, or the extent released without one.
  absl::flat_hash_map<uint64_t, StreamReaders> handed_over_ ABSL_GUARDED_BY(readers_mutex_);

  Mutex copies_mutex_;
  CondVar copies_changed_;
  std::deque<StartedCopy> copies_ ABSL_GUARDED_BY(copies_mutex_);  // The first is being waited for.
  bool stop_ ABSL_GUARDED_BY(copies_mutex_) = false;

  Thread ender_;
};

}  // namespace cairn
