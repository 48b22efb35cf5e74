#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "cairn/options.h"
#include "src/base/mutex.h"
#include "src/base/thread.h"
#include "tiers/allocator.h"
#include "tiers/arena.h"
#include "tiers/device.h"
#include "tiers/extent_owners.h"
#include "tiers/fragmentation.h"
#include "tiers/magazine_allocator.h"

namespace cairn {

struct PinnedTierOptions {
  // Drivers have refused longer registrations than this whose halves they took.
  static constexpr uint64_t kPinChunkBytesMax = uint64_t{64} << 30;

  AllocatorKind allocator = AllocatorKind::kHybrid;
  uint64_t pin_chunk_bytes = kPinChunkBytesMax;  // A multiple of 2 MiB.
  ArenaPlacement placement = {};
};

// L2: extents of one arena of host memory, pinned for the GPU where there is one. Every extent
// starts on a 4096-byte boundary and is a multiple of 4096 long, so it is a legal end of a direct
// transfer. Thread-safe.
//
// The arena is pinned chunk by chunk while it is in use. What is not pinned yet, or never, is
// copied all the same, through a buffer of the driver's. No extent lies across two chunks, so that
// no copy, ours or the host's, has an end in two registrations, or in one and in what has none.
class PinnedTier {
 public:
  static absl::StatusOr<std::unique_ptr<PinnedTier>> Create(uint64_t bytes_max, Device* device,
                                                            const PinnedTierOptions& options);
  // Waits for the chunk under way, and unpins.
  ~PinnedTier();

  // Begins to pin, on a thread of its own; nothing to do for a device that is no GPU. Once.
  // `ended` is told, on that thread, when all is pinned or a chunk was refused: then what was
  // pinned before it stays so, no more is tried, and the tier works all the same. (By the caller's
  // thread when the system has no other.)
  using PinningEnded = std::function<void(const absl::Status& status)>;
  void StartPinning(PinningEnded ended);
  // Begins no further chunk. Does not wait for the one under way.
  void EndPinning() { stop_pinning_.store(true, std::memory_order_relaxed); }
  // And waits for it: `ended` is not told afterwards. From one thread.
  void StopPinning();

  // kResourceExhausted when no free run is long enough now.
  absl::StatusOr<Extent> Reserve(uint64_t bytes) {
    absl::StatusOr<Extent> extent = allocator_->Allocate(bytes);
    if (extent.ok()) mix_.Note(bytes);
    return extent;
  }
  void Release(Extent extent);
  std::byte* Address(Extent extent) const { return arena_->base() + extent.offset; }

  // Nothing in this range is given out any more, neither what is free now nor what becomes so,
  // until Restore. False, and nothing changes, when it overlaps another that is withheld.
  bool Withhold(Extent range) { return allocator_->Withhold(range); }
  void Restore(Extent range) { allocator_->Restore(range); }
  // Of a range that is withheld: nobody has a byte in it, or will before Restore.
  bool IsEmpty(Extent range) const { return allocator_->withheld_bytes(range) == range.bytes; }
  ExtentOwners& owners() { return owners_; }
  // For who empties windows of it.
  MagazineAllocator& space() { return *allocator_; }
  const SizeMix& mix() const { return mix_; }
  Fragmentation fragmentation() const;

  const Arena& arena() const { return *arena_; }
  uint64_t bytes_max() const { return bytes_max_; }
  uint64_t bytes_used() const;
  // Neither used nor withheld.
  uint64_t bytes_free() const { return allocator_->bytes_free(); }
  uint64_t largest_free_bytes() const { return allocator_->largest_free_bytes(); }

  // All of it: copies from and to it are asynchronous, from now on.
  bool is_pinned(Extent extent) const {
    return extent.offset + extent.bytes <= bytes_pinned_.load(std::memory_order_acquire);
  }
  // From the beginning on.
  uint64_t bytes_pinned() const;
  // Not OK: a chunk was refused. Says how far it came.
  absl::Status pin_status() const ABSL_LOCKS_EXCLUDED(pin_mutex_);
  // Some of it is pinned or may come to be: it stays where it is, to the last page. Once false it
  // stays so.
  bool kept_by_gpu() const { return kept_by_gpu_.load(std::memory_order_acquire); }

 private:
  static constexpr uint64_t kAlignment = 4096;

  PinnedTier(std::unique_ptr<Arena> arena, uint64_t bytes_max, Device* device,
             std::unique_ptr<MagazineAllocator> allocator, ExtentOwners owners,
             const PinnedTierOptions& options);
  void TakeBorders();
  void GiveBordersBack();
  void PinChunks() ABSL_LOCKS_EXCLUDED(pin_mutex_);
  void EndedPinning(absl::Status status) ABSL_LOCKS_EXCLUDED(pin_mutex_);
  absl::Span<std::byte> Chunk(uint64_t offset) const {
    return arena_->memory().subspan(offset, pin_chunk_bytes_);
  }

  // Constant.
  const std::unique_ptr<Arena> arena_;
  const uint64_t bytes_max_;
  Device* const device_;
  const uint64_t pin_chunk_bytes_;
  PinningEnded pinning_ended_;

  // Provide their own synchronization.
  const std::unique_ptr<MagazineAllocator> allocator_;
  SizeMix mix_;
  ExtentOwners owners_;

  // The first of each chunk but the first: allocated for good, so that nothing lies across. Of the
  // thread that pins once it was started.
  std::vector<Extent> borders_;
  std::atomic<uint64_t> border_bytes_ = 0;
  // Written by the thread that pins alone.
  std::atomic<uint64_t> bytes_pinned_ = 0;
  std::atomic<bool> kept_by_gpu_;
  std::atomic<bool> stop_pinning_ = false;
  mutable Mutex pin_mutex_;
  absl::Status pin_status_ ABSL_GUARDED_BY(pin_mutex_);
  Thread pinner_;
};

}  // namespace cairn
