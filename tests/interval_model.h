#pragma once

#include <algorithm>
#include <cstdint>
#include <iterator>
#include <map>
#include <vector>

#include "tiers/allocator.h"

namespace cairn {

// Which intervals of a space are taken, in the simplest way that is right.
class IntervalModel {
 public:
  explicit IntervalModel(uint64_t space_bytes) : space_bytes_(space_bytes) {}

  // False when part of it is taken or outside.
  [[nodiscard]] bool Take(Extent extent) {
    if (extent.bytes > space_bytes_ || extent.offset > space_bytes_ - extent.bytes) return false;
    const auto behind = taken_.lower_bound(extent.offset);
    if (behind != taken_.end() && behind->first < extent.offset + extent.bytes) return false;
    if (behind != taken_.begin()) {
      const auto before = std::prev(behind);
      if (before->first + before->second > extent.offset) return false;
    }
    taken_.emplace_hint(behind, extent.offset, extent.bytes);
    bytes_used_ += extent.bytes;
    return true;
  }
  void Give(Extent extent) {
    taken_.erase(extent.offset);
    bytes_used_ -= extent.bytes;
  }
  bool IsTaken(Extent extent) const {
    const auto found = taken_.find(extent.offset);
    return found != taken_.end() && found->second == extent.bytes;
  }
  uint64_t bytes_used() const { return bytes_used_; }
  // What has a byte in the range, in order.
  std::vector<Extent> TakenIn(Extent range) const {
    std::vector<Extent> extents;
    for (const auto& [offset, bytes] : taken_) {
      if (Intersect({offset, bytes}, range).bytes > 0) extents.push_back({offset, bytes});
    }
    return extents;
  }
  uint64_t LongestFree() const {
    uint64_t longest = 0;
    uint64_t end = 0;
    for (const auto& [offset, bytes] : taken_) {
      longest = std::max(longest, offset - end);
      end = offset + bytes;
    }
    return std::max(longest, space_bytes_ - end);
  }

 private:
  const uint64_t space_bytes_;
  std::map<uint64_t, uint64_t> taken_;
  uint64_t bytes_used_ = 0;
};

}  // namespace cairn
