#pragma once

#include <memory>
#include <set>
#include <unordered_map>
#include <vector>

#include "tiers/allocator.h"

namespace cairn::micro {

// A buddy allocator as it is often written: a std::set of free offsets for each order, a hash map
// of what is allocated. What BuddyAllocator is measured against; no tier uses it.
class SetBuddy final : public Allocator {
 public:
  // The space must be a power of two.
  SetBuddy(uint64_t space_bytes, uint64_t alignment);

  absl::StatusOr<Extent> Allocate(uint64_t bytes) override;
  absl::Status Free(Extent extent) override;
  uint64_t bytes_max() const override { return space_bytes_; }
  uint64_t bytes_used() const override { return bytes_used_; }
  uint64_t largest_free_bytes() const override;

 private:
  size_t OrderOf(uint64_t bytes) const;
  uint64_t BlockBytes(size_t order) const { return alignment_ << order; }

  const uint64_t space_bytes_;
  const uint64_t alignment_;
  std::vector<std::set<uint64_t>> free_of_orders_;
  std::unordered_map<uint64_t, size_t> order_of_allocated_;
  uint64_t bytes_used_ = 0;
};

}  // namespace cairn::micro
