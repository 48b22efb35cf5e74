#include "tiers/spread_allocator.h"

#include <algorithm>

namespace cairn {

absl::StatusOr<Extent> SpreadAllocator::AllocateUpTo(uint64_t bytes_max, uint64_t bytes_min) {
  size_t chosen = next_;
  uint64_t chosen_bytes = 0;
  for (size_t i = 0; i < of_folders_.size() && chosen_bytes < bytes_max; ++i) {
    const size_t folder = (next_ + i) % of_folders_.size();
    const uint64_t bytes = std::min(bytes_max, of_folders_[folder]->largest_free_bytes());
    if (bytes <= chosen_bytes) continue;
    chosen = folder;
    chosen_bytes = bytes;
  }
  absl::StatusOr<Extent> extent = of_folders_[chosen]->Allocate(std::max(chosen_bytes, bytes_min));
  if (extent.ok()) next_ = (chosen + 1) % of_folders_.size();
  return extent;
}

uint64_t SpreadAllocator::bytes_max() const {
  uint64_t bytes = 0;
  for (const auto& allocator : of_folders_) bytes += allocator->bytes_max();
  return bytes;
}

uint64_t SpreadAllocator::bytes_used() const {
  uint64_t bytes = 0;
  for (const auto& allocator : of_folders_) bytes += allocator->bytes_used();
  return bytes;
}

}  // namespace cairn
