#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

#include "absl/status/statusor.h"
#include "cairn/options.h"
#include "tiers/allocator.h"
#include "tiers/arena.h"
#include "tiers/device.h"
#include "tiers/magazine_allocator.h"

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
  absl::StatusOr<Extent> Reserve(uint64_t bytes) { return allocator_->Allocate(bytes); }
  void Release(Extent extent);
  std::byte* Address(Extent extent) const { return arena_->base() + extent.offset; }

  const Arena& arena() const { return *arena_; }
  const absl::Status& pin_status() const { return pin_status_; }
  uint64_t bytes_max() const { return bytes_max_; }
  uint64_t bytes_used() const { return allocator_->bytes_used(); }
  uint64_t largest_free_bytes() const { return allocator_->largest_free_bytes(); }

 private:
  PinnedTier(std::unique_ptr<Arena> arena, uint64_t bytes_max, Device* device,
             std::unique_ptr<MagazineAllocator> allocator);

  // Constant.
  const std::unique_ptr<Arena> arena_;
  const uint64_t bytes_max_;
  Device* const device_;
  absl::Status pin_status_;

  // Provides its own synchronization.
  const std::unique_ptr<MagazineAllocator> allocator_;
};

}  // namespace cairn
