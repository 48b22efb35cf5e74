#include "tiers/buddy_allocator.h"

#include <algorithm>
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

Extent BuddyAllocator::WindowFor(uint64_t bytes, uint64_t offset) const {
  const uint64_t block_bytes = std::max(std::bit_ceil(bytes), uint64_t{1} << unit_shift_);
  const uint64_t blocks = space_bytes_ / block_bytes;
  if (blocks == 0) return {0, block_bytes};
  return {std::min(offset / block_bytes, blocks - 1) * block_bytes, block_bytes};
}

void BuddyAllocator::ForEachFree(Extent range, absl::FunctionRef<void(Extent)> visit) const {
  for (int order = 0; order < static_cast<int>(orders_.size()); ++order) {
    if ((orders_with_free_ >> order & 1) == 0) continue;
    const int shift = unit_shift_ + order;
    const uint64_t block_bytes = uint64_t{1} << shift;
    const uint64_t end =
        std::min((range.offset + range.bytes + block_bytes - 1) >> shift, Blocks(order));
    for (uint64_t block = (range.offset + block_bytes - 1) >> shift; block < end; ++block) {
      if (orders_[order].free.Contains(block)) visit({block << shift, block_bytes});
    }
  }
}

void BuddyAllocator::ForEachAllocated(Extent range, absl::FunctionRef<void(Extent)> visit) const {
  if (range.bytes == 0) return;
  for (int order = 0; order < static_cast<int>(orders_.size()); ++order) {
    const int shift = unit_shift_ + order;
    const uint64_t first = range.offset >> shift;
    const uint64_t last = std::min((range.offset + range.bytes - 1) >> shift, Blocks(order) - 1);
    for (uint64_t block = first; block <= last;) {
      const uint64_t word = orders_[order].allocated[block / 64] >> (block % 64);
      if (word == 0) {
        block = (block / 64 + 1) * 64;
        continue;
      }
      block += static_cast<uint64_t>(std::countr_zero(word));
      if (block <= last) visit({block << shift, uint64_t{1} << shift});
      ++block;
    }
  }
}

// Largest first: a block that reaches out of the range is halved, and its halves come up again.
void BuddyAllocator::AllocateAllFree(Extent range, std::vector<Extent>* extents) {
  if (range.bytes == 0) return;
  for (int order = static_cast<int>(orders_.size()) - 1; order >= 0; --order) {
    const int shift = unit_shift_ + order;
    const uint64_t last = std::min((range.offset + range.bytes - 1) >> shift, Blocks(order) - 1);
    for (uint64_t block = range.offset >> shift; block <= last; ++block) {
      if (!orders_[order].free.Contains(block)) continue;
      RemoveFree(order, block);
      const Extent extent = {block << shift, uint64_t{1} << shift};
      if (Intersect(extent, range) == extent) {
        FlipAllocated(order, block);
        bytes_used_ += extent.bytes;
        extents->push_back(extent);
      } else {
        AddFree(order - 1, block * 2);
        AddFree(order - 1, block * 2 + 1);
      }
    }
  }
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
