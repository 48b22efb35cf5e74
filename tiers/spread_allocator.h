#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "tiers/extent_allocator.h"

namespace cairn {

// The allocators of several folders, all over one address space of files that are the folders' in
// turn: what is of others is reserved in each. Extents come from one folder after the other, so
// that a stream of them keeps all drives busy. Thread-compatible.
class SpreadAllocator {
 public:
  SpreadAllocator(uint64_t file_bytes, std::vector<std::unique_ptr<ExtentAllocator>> of_folders)
      : file_bytes_(file_bytes), of_folders_(std::move(of_folders)) {}

  // As much as there is in one run, `bytes_max` at most; kResourceExhausted when no free run has
  // `bytes_min`. From the folder whose turn it is, if no other has more.
  absl::StatusOr<Extent> AllocateUpTo(uint64_t bytes_max, uint64_t bytes_min);
  // The rest as in ExtentAllocator.
  absl::Status Free(Extent extent) { return Of(extent.offset).Free(extent); }
  absl::Status Split(Extent extent, uint64_t bytes) {
    return Of(extent.offset).Split(extent, bytes);
  }
  void Withdraw(Extent range) { Of(range.offset).Withdraw(range); }
  uint64_t withdrawn_bytes_used(uint64_t offset) const {
    return Of(offset).withdrawn_bytes_used(offset);
  }
  void ForEachFree(Extent range, absl::FunctionRef<void(Extent)> visit) const {
    for (const auto& of_folder : of_folders_) of_folder->ForEachFree(range, visit);
  }
  uint64_t bytes_max() const;
  uint64_t bytes_used() const;

 private:
  ExtentAllocator& Of(uint64_t offset) const {
    return *of_folders_[offset / file_bytes_ % of_folders_.size()];
  }

  const uint64_t file_bytes_;
  const std::vector<std::unique_ptr<ExtentAllocator>> of_folders_;
  size_t next_ = 0;  // Of of_folders_: whose turn it is.
};

}  // namespace cairn
