#include "tiers/spread_allocator.h"

#include <algorithm>

namespace cairn {

absl::StatusOr<Extent> SpreadAllocator::AllocateUpTo(uint64_t bytes_max, uint64_t bytes_min,
                                                     std::optional<size_t> avoided) {
  uint64_t most = 0;
  for (size_t i = 0; i < of_folders_.size(); ++i) {
    bytes_[i] = std::min(bytes_max, of_folders_[i]->largest_free_bytes());
    if (i != avoided) most = std::max(most, bytes_[i]);
  }
  if (avoided.has_value()) {
    if (most >= bytes_min) bytes_[*avoided] = 0;
    most = std::max(most, bytes_[*avoided]);
  }
  // The turn of none, who have too little: the first of them says so.
  if (most < bytes_min) return of_folders_[0]->Allocate(bytes_min);
  WeightedTurns& turns = bytes_min < bytes_max ? turns_of_runs_ : turns_;
  const size_t folder = turns.Next(most, [&](size_t i) { return bytes_[i] == most; });
  return of_folders_[folder]->Allocate(most);
}

absl::StatusOr<Extent> SpreadAllocator::AllocateBeside(uint64_t bytes, uint64_t offset) {
  absl::StatusOr<Extent> extent = Of(offset).Allocate(bytes);
  if (extent.ok() || !absl::IsResourceExhausted(extent.status())) return extent;
  return AllocateUpTo(bytes, bytes);
}

// File by file: what another folder's allocator would have to look through is none of its own.
void SpreadAllocator::ForEachAllocated(Extent range, absl::FunctionRef<void(Extent)> visit) const {
  const uint64_t end = range.offset + range.bytes;
  for (uint64_t begin = range.offset; begin < end;) {
    const uint64_t next = std::min(end, (begin / file_bytes_ + 1) * file_bytes_);
    Of(begin).ForEachAllocated({begin, next - begin}, visit);
    begin = next;
  }
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
