// What NvmeTier tells of ranges of its space, and withholds of them.

#include <algorithm>

#include "tiers/nvme_tier.h"

namespace cairn {

Fragmentation NvmeTier::fragmentation() const {
  return MeasureFragmentation(offset_end_, mix_,
                              [this](Extent part, VisitRun visit) { ForEachFree(part, visit); });
}

// Of all that a file has behind its header.
Extent NvmeTier::WindowFor(uint64_t bytes, uint64_t offset) const {
  constexpr Extent kNone = {0, UINT64_MAX};
  if (offset >= offset_end_ || bytes > offset_end_) return kNone;
  const uint64_t rounded = RoundUpToBlock(bytes);
  const size_t file = FileOf(offset);
  const StoreFiles::File& on_disk = files_->files()[file];
  const uint64_t begin = file * file_bytes_ + kBlockBytes;
  const uint64_t end = file * file_bytes_ + on_disk.bytes / kBlockBytes * kBlockBytes;
  if (on_disk.fd < 0 || end < begin || rounded > end - begin || !InUse(offset)) return kNone;
  return {std::clamp(offset / kBlockBytes * kBlockBytes, begin, end - rounded), rounded};
}

void NvmeTier::ForEachFree(Extent range, absl::FunctionRef<void(Extent)> visit) const {
  MutexLock lock(mutex_);
  allocator_.ForEachFree(range, visit);
}

void NvmeTier::ForEachAllocated(Extent range, absl::FunctionRef<void(Extent)> visit) const {
  MutexLock lock(mutex_);
  allocator_.ForEachAllocated(range, visit);
}

bool NvmeTier::Withhold(Extent range) {
  MutexLock lock(mutex_);
  return !given_up_[FileOf(range.offset)] && allocator_.Withhold(range);
}

uint64_t NvmeTier::withheld_bytes(Extent range) const {
  MutexLock lock(mutex_);
  return allocator_.withheld().bytes(range);
}

uint64_t NvmeTier::bytes_withheld() const {
  MutexLock lock(mutex_);
  return allocator_.withheld().bytes();
}

std::vector<Extent> NvmeTier::withheld_ranges() const {
  MutexLock lock(mutex_);
  return allocator_.withheld().ranges();
}

void NvmeTier::Restore(Extent range) {
  MutexLock lock(mutex_);
  allocator_.Restore(range);
}

absl::StatusOr<Extent> NvmeTier::RestoreAndAllocate(Extent range, uint64_t bytes) {
  MutexLock lock(mutex_);
  allocator_.Restore(range);
  return allocator_.AllocateBeside(bytes, range.offset);
}

absl::StatusOr<Extent> NvmeTier::ReserveBeside(uint64_t bytes, uint64_t offset) {
  MutexLock lock(mutex_);
  return allocator_.AllocateBeside(bytes, offset);
}

}  // namespace cairn
