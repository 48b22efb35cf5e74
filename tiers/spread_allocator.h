#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "io/weighted_turns.h"
#include "tiers/extent_allocator.h"
#include "tiers/withheld_ranges.h"

namespace cairn {

// The allocators of several folders, all over one address space of files: what is of others is
// reserved in each. Extents come from the folders turn about, in bytes as their weights say, so
// that a stream of them keeps all drives busy. Thread-compatible.
class SpreadAllocator {
 public:
  // By number of the file its folder; by folder its weight and its allocator.
  SpreadAllocator(uint64_t file_bytes, std::vector<uint32_t> folder_of,
                  std::vector<uint32_t> weights,
                  std::vector<std::unique_ptr<ExtentAllocator>> of_folders)
      : file_bytes_(file_bytes),
        folder_of_(std::move(folder_of)),
        of_folders_(std::move(of_folders)),
        turns_(weights),
        turns_of_runs_(std::move(weights)),
        bytes_(of_folders_.size()) {}

  // As much as there is in one run, `bytes_max` at most; kResourceExhausted when no free run has
  // `bytes_min`. From the folder whose turn it is among those that have most: one that is full, or
  // withdrawn, is passed over, and has nothing to make up for when it has room again. So is the
  // folder to avoid, where another has `bytes_min`.
  absl::StatusOr<Extent> AllocateUpTo(uint64_t bytes_max, uint64_t bytes_min,
                                      std::optional<size_t> avoided = std::nullopt);
  // Of the folder that has this offset, else, where it has no such run, as the above.
  absl::StatusOr<Extent> AllocateBeside(uint64_t bytes, uint64_t offset);
  // The rest as in ExtentAllocator.
  absl::Status Free(Extent extent) {
    if (!withheld_.empty() && withheld_.Keep(extent)) return absl::OkStatus();
    return Of(extent.offset).Free(extent);
  }
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
  void ForEachAllocated(Extent range, absl::FunctionRef<void(Extent)> visit) const;
  // As MovableSpace has it, of ranges within one file.
  bool Withhold(Extent range) { return withheld_.Add(Of(range.offset), range); }
  void Restore(Extent range) { withheld_.Remove(Of(range.offset), range); }
  const WithheldRanges& withheld() const { return withheld_; }
  uint64_t bytes_max() const;
  uint64_t bytes_used() const;  // With what is withheld.
  const ExtentAllocator& of_folder(size_t folder) const { return *of_folders_[folder]; }

 private:
  ExtentAllocator& Of(uint64_t offset) const {
    return *of_folders_[folder_of_[offset / file_bytes_]];
  }

  const uint64_t file_bytes_;
  const std::vector<uint32_t> folder_of_;
  const std::vector<std::unique_ptr<ExtentAllocator>> of_folders_;
  WeightedTurns turns_;
  // Of those who take as much as they can get: what of it they give back soon is not known yet, so
  // they are counted by themselves, and as one is like the other.
  WeightedTurns turns_of_runs_;
  std::vector<uint64_t> bytes_;  // Of AllocateUpTo: what each folder could give.
  WithheldRanges withheld_;
};

}  // namespace cairn
