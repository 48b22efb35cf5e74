#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>

#include "absl/status/statusor.h"
#include "cairn/options.h"
#include "tiers/allocator.h"
#include "tiers/arena.h"
#include "tiers/device.h"
#include "tiers/fragmentation.h"
#include "tiers/magazine_allocator.h"
#include "tiers/reserved_array.h"

namespace cairn {

// L2: extents of one arena of host memory, pinned for the GPU where there is one. Every extent
// starts on a 4096-byte boundary and is a multiple of 4096 long, so it is a legal end of a direct
// transfer. Thread-safe.
class PinnedTier {
 public:
  // Pins the arena with `device`; a refusal is in pin_status(), and the tier works all the same.
  static absl::StatusOr<std::unique_ptr<PinnedTier>> Create(uint64_t bytes_max, AllocatorKind kind,
                                                            Device* device);
  ~PinnedTier();

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
  // Whose copy lies in the extent that begins here: the hash of its key, 0 when none was told. What
  // is freed keeps what it had, so it is a hint where to look.
  void SetOwner(Extent extent, uint64_t key_hash) {
    std::atomic_ref(owners_[extent.offset / kAlignment]).store(key_hash, std::memory_order_relaxed);
  }
  uint64_t OwnerOf(Extent extent) const {
    return std::atomic_ref(owners_[extent.offset / kAlignment]).load(std::memory_order_relaxed);
  }
  // For who empties windows of it.
  MagazineAllocator& space() { return *allocator_; }
  const SizeMix& mix() const { return mix_; }
  Fragmentation fragmentation() const;

  const Arena& arena() const { return *arena_; }
  const absl::Status& pin_status() const { return pin_status_; }
  uint64_t bytes_max() const { return bytes_max_; }
  uint64_t bytes_used() const { return allocator_->bytes_used(); }
  // Neither used nor withheld.
  uint64_t bytes_free() const;
  uint64_t largest_free_bytes() const { return allocator_->largest_free_bytes(); }
  // It stays where it is, to the last page, as long as the tier lives.
  bool pinned_by_gpu() const { return device_->is_gpu() && pin_status_.ok(); }

 private:
  static constexpr uint64_t kAlignment = 4096;

  PinnedTier(std::unique_ptr<Arena> arena, uint64_t bytes_max, Device* device,
             std::unique_ptr<MagazineAllocator> allocator, ReservedArray<uint64_t> owners);

  // Constant.
  const std::unique_ptr<Arena> arena_;
  const uint64_t bytes_max_;
  Device* const device_;
  absl::Status pin_status_;

  // Provide their own synchronization.
  const std::unique_ptr<MagazineAllocator> allocator_;
  SizeMix mix_;
  mutable ReservedArray<uint64_t> owners_;  // By the page where an extent begins.
};

}  // namespace cairn
