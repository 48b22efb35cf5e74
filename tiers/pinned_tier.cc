#include "tiers/pinned_tier.h"

#include <utility>

#include "src/base/check.h"
#include "src/base/status_macros.h"
#include "tiers/extent_allocator.h"

namespace cairn {
namespace {

constexpr uint64_t kAlignment = 4096;

}  // namespace

absl::StatusOr<std::unique_ptr<PinnedTier>> PinnedTier::Create(uint64_t bytes_max, Device* device) {
  const uint64_t bytes = bytes_max / kAlignment * kAlignment;
  CAIRN_ASSIGN_OR_RETURN(std::unique_ptr<Arena> arena, Arena::Create(bytes));
  CAIRN_ASSIGN_OR_RETURN(std::unique_ptr<Allocator> allocator,
                         ExtentAllocator::Create(bytes, kAlignment));
  return std::unique_ptr<PinnedTier>(
      new PinnedTier(std::move(arena), bytes, device, std::move(allocator)));
}

PinnedTier::PinnedTier(std::unique_ptr<Arena> arena, uint64_t bytes_max, Device* device,
                       std::unique_ptr<Allocator> allocator)
    : arena_(std::move(arena)),
      bytes_max_(bytes_max),
      device_(device),
      pin_status_(device->PinMemory(arena_->memory())),
      allocator_(std::move(allocator)) {}

PinnedTier::~PinnedTier() {
  // The mapping goes right after, which ends the pinning too: a refusal changes nothing.
  if (pin_status_.ok()) device_->UnpinMemory(arena_->memory()).IgnoreError();
}

absl::StatusOr<Extent> PinnedTier::Reserve(uint64_t bytes) {
  MutexLock lock(mutex_);
  return allocator_->Allocate(bytes);
}

void PinnedTier::Release(Extent extent) {
  MutexLock lock(mutex_);
  CAIRN_CHECK(allocator_->Free(extent).ok());
}

uint64_t PinnedTier::bytes_used() const {
  MutexLock lock(mutex_);
  return allocator_->bytes_used();
}

uint64_t PinnedTier::largest_free_bytes() const {
  MutexLock lock(mutex_);
  return allocator_->largest_free_bytes();
}

}  // namespace cairn
