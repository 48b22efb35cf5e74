#include "tiers/allocator.h"

#include <algorithm>
#include <bit>

#include "absl/strings/str_cat.h"
#include "tiers/buddy_allocator.h"
#include "tiers/extent_allocator.h"
#include "tiers/hybrid_allocator.h"

namespace cairn {

absl::StatusOr<std::unique_ptr<SpaceAllocator>> Allocator::Create(AllocatorKind kind,
                                                                  uint64_t space_bytes,
                                                                  uint64_t alignment) {
  switch (kind) {
    case AllocatorKind::kHybrid:
      return HybridAllocator::Create(space_bytes, alignment);
    case AllocatorKind::kBuddy:
      return BuddyAllocator::Create(space_bytes, alignment);
    case AllocatorKind::kBestFit:
      return ExtentAllocator::Create(space_bytes, alignment);
  }
  return absl::InvalidArgumentError(
      absl::StrCat("no allocator of the kind ", static_cast<int>(kind)));
}

absl::Status CheckSpace(uint64_t space_bytes, uint64_t alignment) {
  if (!std::has_single_bit(alignment)) {
    return absl::InvalidArgumentError(
        absl::StrCat("alignment ", alignment, " is not a power of two"));
  }
  if ((space_bytes & (alignment - 1)) != 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("space of ", space_bytes, " bytes is not a multiple of ", alignment));
  }
  return absl::OkStatus();
}

absl::Status NotAllocated(Extent extent) {
  return absl::InvalidArgumentError(
      absl::StrCat("extent [", extent.offset, ", +", extent.bytes, ") is not allocated"));
}

Extent Intersect(Extent a, Extent b) {
  const uint64_t begin = std::max(a.offset, b.offset);
  const uint64_t end = std::min(a.offset + a.bytes, b.offset + b.bytes);
  return end > begin ? Extent{begin, end - begin} : Extent{};
}

}  // namespace cairn
