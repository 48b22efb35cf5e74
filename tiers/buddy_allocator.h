#pragma once

#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "tiers/allocator.h"
#include "tiers/bit_tree.h"

namespace cairn {

// Blocks of a power of two, halved to be allocated and joined with their other half when freed,
// the one with the least offset first: what is free stays in large pieces. For sizes that are
// powers of two, or a little less; of others it wastes up to half (44 % of KV blocks of 2.25 MiB),
// where HybridAllocator wastes nothing. O(log space) an operation. Takes two bits for each block of
// each size, and their summaries: half a byte for each unit of alignment. Thread-compatible.
class BuddyAllocator final : public SpaceAllocator {
 public:
  // As Allocator::Create. The space need not be a power of two.
  static absl::StatusOr<std::unique_ptr<BuddyAllocator>> Create(uint64_t space_bytes,
                                                                uint64_t alignment);

  // Rounded up to a power of two.
  absl::StatusOr<Extent> Allocate(uint64_t bytes) override;
  absl::Status Free(Extent extent) override;
  uint64_t bytes_max() const override { return space_bytes_; }
  uint64_t bytes_used() const override { return bytes_used_; }
  uint64_t largest_free_bytes() const override;
  Extent WindowFor(uint64_t bytes, uint64_t offset) const override;
  void ForEachFree(Extent range, absl::FunctionRef<void(Extent)> visit) const override;
  void ForEachAllocated(Extent range, absl::FunctionRef<void(Extent)> visit) const override;
  void AllocateAllFree(Extent range, std::vector<Extent>* extents) override;

 private:
  // The blocks of 2^n units: a number each, from the beginning of the space on.
  struct Order {
    BitTree free;
    ReservedArray<uint64_t> allocated;  // A bit each.
  };

  BuddyAllocator(uint64_t space_bytes, int unit_shift, std::vector<Order> orders);
  void AddFree(int order, uint64_t block);
  void RemoveFree(int order, uint64_t block);
  void FlipAllocated(int order, uint64_t block) {
    orders_[order].allocated[block / 64] ^= uint64_t{1} << (block % 64);
  }
  uint64_t Blocks(int order) const { return space_bytes_ >> (unit_shift_ + order); }

  const uint64_t space_bytes_;
  const int unit_shift_;
  std::vector<Order> orders_;
  uint64_t orders_with_free_ = 0;  // A bit each.
  uint64_t bytes_used_ = 0;
};

}  // namespace cairn
