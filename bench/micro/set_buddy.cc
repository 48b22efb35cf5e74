#include "bench/micro/set_buddy.h"

namespace cairn::micro {

SetBuddy::SetBuddy(uint64_t space_bytes, uint64_t alignment)
    : space_bytes_(space_bytes), alignment_(alignment), free_of_orders_(OrderOf(space_bytes) + 1) {
  free_of_orders_.back().insert(0);
}

size_t SetBuddy::OrderOf(uint64_t bytes) const {
  size_t order = 0;
  while (BlockBytes(order) < bytes) ++order;
  return order;
}

absl::StatusOr<Extent> SetBuddy::Allocate(uint64_t bytes) {
  if (bytes == 0) return absl::InvalidArgumentError("allocation of 0 bytes");
  if (bytes > space_bytes_) return absl::ResourceExhaustedError("more than the space");
  const size_t wanted = OrderOf(bytes);
  size_t order = wanted;
  while (order < free_of_orders_.size() && free_of_orders_[order].empty()) ++order;
  if (order == free_of_orders_.size()) return absl::ResourceExhaustedError("no free block");
  const uint64_t offset = *free_of_orders_[order].begin();
  free_of_orders_[order].erase(free_of_orders_[order].begin());
  while (order > wanted) {
    --order;
    free_of_orders_[order].insert(offset + BlockBytes(order));
  }
  order_of_allocated_[offset] = order;
  bytes_used_ += BlockBytes(order);
  return Extent{offset, BlockBytes(order)};
}

absl::Status SetBuddy::Free(Extent extent) {
  const auto found = order_of_allocated_.find(extent.offset);
  if (found == order_of_allocated_.end() || BlockBytes(found->second) != extent.bytes) {
    return NotAllocated(extent);
  }
  size_t order = found->second;
  uint64_t offset = extent.offset;
  order_of_allocated_.erase(found);
  bytes_used_ -= extent.bytes;
  while (order + 1 < free_of_orders_.size()) {
    const auto buddy = free_of_orders_[order].find(offset ^ BlockBytes(order));
    if (buddy == free_of_orders_[order].end()) break;
    free_of_orders_[order].erase(buddy);
    offset &= ~BlockBytes(order);
    ++order;
  }
  free_of_orders_[order].insert(offset);
  return absl::OkStatus();
}

uint64_t SetBuddy::largest_free_bytes() const {
  for (size_t order = free_of_orders_.size(); order-- > 0;) {
    if (!free_of_orders_[order].empty()) return BlockBytes(order);
  }
  return 0;
}

}  // namespace cairn::micro
