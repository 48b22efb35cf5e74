#include "tiers/pinned_tier.h"

#include <utility>

#include "src/base/check.h"
#include "src/base/status_macros.h"

namespace cairn {

absl::StatusOr<std::unique_ptr<PinnedTier>> PinnedTier::Create(uint64_t bytes_max,
                                                               AllocatorKind kind, Device* device) {
  const uint64_t bytes = bytes_max / kAlignment * kAlignment;
  CAIRN_ASSIGN_OR_RETURN(std::unique_ptr<Arena> arena, Arena::Create(bytes));
  CAIRN_ASSIGN_OR_RETURN(std::unique_ptr<MagazineAllocator> allocator,
                         MagazineAllocator::Create(kind, bytes, kAlignment));
  CAIRN_ASSIGN_OR_RETURN(ReservedArray<uint64_t> owners,
                         ReservedArray<uint64_t>::Create(bytes / kAlignment));
  return std::unique_ptr<PinnedTier>(
      new PinnedTier(std::move(arena), bytes, device, std::move(allocator), std::move(owners)));
}

PinnedTier::PinnedTier(std::unique_ptr<Arena> arena, uint64_t bytes_max, Device* device,
                       std::unique_ptr<MagazineAllocator> allocator, ReservedArray<uint64_t> owners)
    : arena_(std::move(arena)),
      bytes_max_(bytes_max),
      device_(device),
      pin_status_(device->PinMemory(arena_->memory())),
      allocator_(std::move(allocator)),
      mix_(bytes_max),
      owners_(std::move(owners)) {}

PinnedTier::~PinnedTier() {
  // The mapping goes right after, which ends the pinning too: a refusal changes nothing.
  if (pin_status_.ok()) device_->UnpinMemory(arena_->memory()).IgnoreError();
}

uint64_t PinnedTier::bytes_free() const {
  const uint64_t taken = bytes_used() + allocator_->withheld_bytes();
  return taken < bytes_max_ ? bytes_max_ - taken : 0;
}

Fragmentation PinnedTier::fragmentation() const {
  return MeasureFragmentation(bytes_max_, mix_, [this](Extent part, VisitRun visit) {
    allocator_->ForEachFree(part, visit);
  });
}

void PinnedTier::Release(Extent extent) { CAIRN_CHECK(allocator_->Free(extent).ok()); }

}  // namespace cairn
