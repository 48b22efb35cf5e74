#pragma once

#include <cstdint>
#include <vector>

#include "tiers/allocator.h"

namespace cairn {

// The ranges of a space that are withheld, and what is free of them: allocated in the space's
// allocator, by nobody. An extent that reaches into several ranges belongs to one, and counts in
// all. Thread-compatible.
class WithheldRanges {
 public:
  bool empty() const { return ranges_.empty(); }
  // As MovableSpace::Withhold.
  bool Add(SpaceAllocator& space, Extent range);
  // Keeps an extent that is freed if it has a byte in a range; else false.
  bool Keep(Extent extent);
  // Frees what is free of a range, and forgets it.
  void Remove(SpaceAllocator& space, Extent range);

  // Free of all ranges, and of one.
  uint64_t bytes() const { return bytes_; }
  uint64_t bytes(Extent range) const;
  std::vector<Extent> ranges() const;
  // From the beginning of the first to the end of the last.
  Extent Around() const;

 private:
  struct Withheld {
    Extent range;
    std::vector<Extent> extents;
    uint64_t bytes = 0;  // Of all extents, what is in the range.
  };

  Withheld* RangeAround(Extent extent);
  void AddTo(Withheld& withheld, Extent extent);
  void Count(Withheld& withheld, Extent extent);

  std::vector<Withheld> ranges_;
  uint64_t bytes_ = 0;
};

}  // namespace cairn
