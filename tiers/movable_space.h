#pragma once

#include <cstdint>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/statusor.h"
#include "tiers/allocator.h"

namespace cairn {

// A tier's space as one sees it who empties ranges of it (Defragmenter). A range begins and ends at
// multiples of the unit. Thread-safe.
class MovableSpace {
 public:
  virtual ~MovableSpace() = default;

  // All extents lie in [0, end()), which need not all be space.
  virtual uint64_t end() const = 0;
  virtual uint64_t unit_bytes() const = 0;
  // As Allocator::Allocate.
  virtual absl::StatusOr<Extent> Allocate(uint64_t bytes) = 0;

  // As SpaceAllocator has them; `visit` is called with a lock held, and must be short.
  virtual Extent Widen(Extent range) const = 0;
  virtual Extent WindowFor(uint64_t bytes, uint64_t offset) const = 0;
  virtual void ForEachFree(Extent range, absl::FunctionRef<void(Extent)> visit) const = 0;
  virtual void ForEachAllocated(Extent range, absl::FunctionRef<void(Extent)> visit) const = 0;

  // From here on what is free in the range, and what is freed in it, is given to nobody until it is
  // restored. It should be a widened one: else what reaches out of it keeps it in pieces.
  // False, and nothing changes, when it overlaps another that is withheld.
  virtual bool Withhold(Extent range) = 0;
  // Of a range that is withheld: how much of it is free by now. When it is all, nobody has a byte
  // there, or will before it is restored.
  virtual uint64_t withheld_bytes(Extent range) const = 0;
  virtual std::vector<Extent> withheld_ranges() const = 0;
  // Gives the range back, which is one that was withheld. When `bytes` are asked for they are taken
  // at once, before anybody else has the room; as Allocate.
  virtual void Restore(Extent range) = 0;
  virtual absl::StatusOr<Extent> RestoreAndAllocate(Extent range, uint64_t bytes) = 0;
};

}  // namespace cairn
