#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "tiers/allocator.h"

namespace cairn {

// Best fit over the free runs of an address space, neighbours joined when freed: exact sizes, no
// rounding but to the alignment, so uniform KV blocks of any size fill the space without waste.
// O(log free runs) an operation. An allocated extent has no node of its own: a bit says where one
// begins, and it ends where the next one, free space or a reserved extent does; so memory follows
// the space (a bit for each 4096 bytes) and the free runs, not the number of extents.
class ExtentAllocator final : public SpaceAllocator {
 public:
  // The space is [0, space_bytes) in units of `alignment` (a power of two), less `reserved`
  // (never allocated, keeps its neighbours apart) and `in_use` (allocated). Both sorted by offset.
  // kInvalidArgument when they overlap, are misaligned or out of the space, naming which.
  static absl::StatusOr<std::unique_ptr<ExtentAllocator>> Create(
      uint64_t space_bytes, uint64_t alignment, absl::Span<const Extent> reserved = {},
      absl::Span<const Extent> in_use = {});

  absl::StatusOr<Extent> Allocate(uint64_t bytes) override;
  absl::Status Free(Extent extent) override;
  // Makes two allocated extents of one, the first `bytes` long; the second begins where it ends.
  // kInvalidArgument, and nothing changes, unless this very extent is allocated and `bytes` is a
  // multiple of the alignment within it.
  absl::Status Split(Extent extent, uint64_t bytes);
  // Nothing that begins in this range is allocated from here on: what is free there leaves
  // bytes_max() now, what is in use when it is freed. Once per range.
  void Withdraw(Extent range);
  // In use of what begins in a range that was withdrawn, given by its offset.
  uint64_t withdrawn_bytes_used(uint64_t offset) const;
  uint64_t bytes_max() const override { return bytes_max_; }
  uint64_t bytes_used() const override { return bytes_used_; }
  uint64_t largest_free_bytes() const override;
  Extent WindowFor(uint64_t bytes, uint64_t offset) const override {
    return {offset, (bytes + alignment_ - 1) & ~(alignment_ - 1)};
  }
  void ForEachFree(Extent range, absl::FunctionRef<void(Extent)> visit) const override;
  // But for what begins in a range that was withdrawn.
  void ForEachAllocated(Extent range, absl::FunctionRef<void(Extent)> visit) const override;
  void AllocateAllFree(Extent range, std::vector<Extent>* extents) override;

 private:
  ExtentAllocator(uint64_t space_bytes, uint64_t alignment);
  void AddFree(Extent extent);
  struct Withdrawn {
    uint64_t end = 0;
    uint64_t bytes_used = 0;
  };
  // Where the range begins that was withdrawn and has this offset in it.
  std::optional<uint64_t> WithdrawnRangeOf(uint64_t offset) const;
  // Whether this very extent is allocated.
  bool Allocated(Extent extent) const;
  bool Begins(uint64_t offset) const {
    const uint64_t number = offset / alignment_;
    return (begins_[number / 64] >> (number % 64) & 1) != 0;
  }
  void FlipBegin(uint64_t offset) {
    const uint64_t number = offset / alignment_;
    begins_[number / 64] ^= uint64_t{1} << (number % 64);
  }
  // Whether an allocated extent begins in [from, to).
  bool AnyBegins(uint64_t from, uint64_t to) const;
  // Where the first does that begins in [from, to), or `to`.
  uint64_t FirstBegin(uint64_t from, uint64_t to) const;
  // Where the last one begins that does so at `offset` or before; nothing when none does.
  std::optional<uint64_t> LastBegin(uint64_t offset) const;
  // Of what is free in no withdrawn range, or reserved: where the first begins at `offset` or
  // behind it, or the end of the space.
  uint64_t FirstUnallocated(uint64_t offset) const;

  const uint64_t space_bytes_;
  const uint64_t alignment_;
  std::vector<Extent> reserved_;  // In order.
  uint64_t bytes_max_ = 0;
  uint64_t bytes_used_ = 0;
  std::map<uint64_t, uint64_t> free_by_offset_;            // offset -> bytes
  std::set<std::pair<uint64_t, uint64_t>> free_by_bytes_;  // (bytes, offset)
  std::vector<uint64_t> begins_;  // A bit for each unit of the space: an allocated extent begins.
  std::map<uint64_t, Withdrawn> withdrawn_;  // By offset.
};

}  // namespace cairn
