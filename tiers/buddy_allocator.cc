#include "tiers/buddy_allocator.h"

#include <bit>

#include "absl/strings/str_cat.h"
#include "src/base/status_macros.h"

namespace cairn {

absl::StatusOr<std::unique_ptr<BuddyAllocator>> BuddyAllocator::Create(uint64_t space_bytes,
                                                                       uint64_t alignment) {
  CAIRN_RETURN_IF_ERROR(CheckSpace(space_bytes, alignment));
  std::vector<Order> orders;
  for (uint64_t blocks = space_bytes / alignment; blocks > 0; blocks /= 2) {
    CAIRN_ASSIGN_OR_RETURN(BitTree free, BitTree::Create(blocks));
    CAIRN_ASSIGN_OR_RETURN(ReservedArray<uint64_t> allocated,
                           ReservedArray<uint64_t>::Create((blocks + 63) / 64));
    orders.push_back({std::move(free), std::move(allocated)});
  }
  return std::unique_ptr<BuddyAllocator>(
      new BuddyAllocator(space_bytes, std::countr_zero(alignment), std::move(orders)));
}

BuddyAllocator::BuddyAllocator(uint64_t space_bytes, int unit_shift, std::vector<Order> orders)
    : space_bytes_(space_bytes), unit_shift_(unit_shift), orders_(std::move(orders)) {
  // The largest blocks first: each begins at a multiple of itself.
  uint64_t offset = 0;
  for (int order = static_cast<int>(orders_.size()) - 1; order >= 0; --order) {
    const uint64_t block_bytes = uint64_t{1} << (unit_shift_ + order);
    if ((space_bytes_ & block_bytes) == 0) continue;
    AddFree(order, offset / block_bytes);
    offset += block_bytes;
  }
}

absl::StatusOr<Extent> BuddyAllocator::Allocate(uint64_t bytes) {
  if (bytes == 0) return absl::InvalidArgumentError("allocation of 0 bytes");
  const int wanted = bytes > space_bytes_ ? static_cast<int>(orders_.size())
                                          : 64 - std::countl_zero((bytes - 1) >> unit_shift_);
  const uint64_t orders = wanted < 64 ? orders_with_free_ >> wanted << wanted : 0;
  if (orders == 0) {
    return absl::ResourceExhaustedError(
        absl::StrCat("no free block of ", bytes, " bytes: ", bytes_used_, " of ", space_bytes_,
                     " used, ", largest_free_bytes(), " the largest free"));
  }
  int order = std::countr_zero(orders);
  uint64_t block = orders_[order].free.First();
  RemoveFree(order, block);
  while (order > wanted) {
    --order;
    block *= 2;
    AddFree(order, block + 1);
  }
  FlipAllocated(order, block);
  const uint64_t block_bytes = uint64_t{1} << (unit_shift_ + order);
  bytes_used_ += block_bytes;
  return Extent{block * block_bytes, block_bytes};
}

absl::Status BuddyAllocator::Free(Extent extent) {
  const int order = 63 - std::countl_zero(extent.bytes) - unit_shift_;
  if (!std::has_single_bit(extent.bytes) || order < 0 ||
      order >= static_cast<int>(orders_.size()) || extent.offset % extent.bytes != 0) {
    return NotAllocated(extent);
  }
  uint64_t block = extent.offset / extent.bytes;
  if (block >= Blocks(order) || (orders_[order].allocated[block / 64] >> (block % 64) & 1) == 0) {
    return NotAllocated(extent);
  }
  FlipAllocated(order, block);
  bytes_used_ -= extent.bytes;
  int joined = order;
  while ((block ^ 1) < Blocks(joined) && orders_[joined].free.Contains(block ^ 1)) {
    RemoveFree(joined, block ^ 1);
    block /= 2;
    ++joined;
  }
  AddFree(joined, block);
  return absl::OkStatus();
}

uint64_t BuddyAllocator::largest_free_bytes() const {
  return orders_with_free_ == 0
             ? 0
             : uint64_t{1} << (unit_shift_ + 63 - std::countl_zero(orders_with_free_));
}

void BuddyAllocator::AddFree(int order, uint64_t block) {
  orders_[order].free.Insert(block);
  orders_with_free_ |= uint64_t{1} << order;
}

void BuddyAllocator::RemoveFree(int order, uint64_t block) {
  orders_[order].free.Remove(block);
  if (orders_[order].free.empty()) orders_with_free_ &= ~(uint64_t{1} << order);
}

}  // namespace cairn
