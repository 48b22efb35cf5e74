#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "cairn/options.h"

namespace cairn {

// A run of bytes in a tier's address space: memory, or the data files.
struct Extent {
  uint64_t offset = 0;
  uint64_t bytes = 0;

  friend bool operator==(const Extent& a, const Extent& b) {
    return a.offset == b.offset && a.bytes == b.bytes;
  }
};

class SpaceAllocator;

// Which bytes of an address space are taken. Knows offsets only and never touches the bytes, so
// the same code carves host memory, GPU memory and files. Thread-compatible, so its tier locks,
// unless an implementation says that it is thread-safe.
class Allocator {
 public:
  // Of the space [0, space_bytes): extents begin at multiples of `alignment`, a power of two, and
  // are multiples of it long. kInvalidArgument when the space is no multiple of it, which one
  // that is smaller is not.
  static absl::StatusOr<std::unique_ptr<SpaceAllocator>> Create(AllocatorKind kind,
                                                                uint64_t space_bytes,
                                                                uint64_t alignment);
  virtual ~Allocator() = default;

  // An extent of at least `bytes`, rounded up to the alignment or as the implementation says.
  // kResourceExhausted when no free run is that long; kInvalidArgument for 0 bytes. Never blocks,
  // never evicts.
  virtual absl::StatusOr<Extent> Allocate(uint64_t bytes) = 0;

  // kInvalidArgument, and nothing changes, unless this very extent is allocated.
  virtual absl::Status Free(Extent extent) = 0;

  virtual uint64_t bytes_max() const = 0;   // What could ever be allocated.
  virtual uint64_t bytes_used() const = 0;  // Allocated.
  virtual uint64_t largest_free_bytes() const = 0;
};

// One that can be asked what lies where in its space, for who empties a range of it. A range begins
// and ends at multiples of the alignment and is of the space. Thread-compatible.
class SpaceAllocator : public Allocator {
 public:
  // The least range around this one that can become one free run when all in it is freed, once it
  // is divided from what is around it.
  virtual Extent Widen(Extent range) const { return range; }
  // Divides what was taken as a whole to be cut further (a slab) where the widened range begins and
  // ends: what is of the range then becomes free by itself, when all in it is.
  virtual void Divide(Extent /*range*/) {}
  // A range from about `offset` on that, once all of it is free, has room for `bytes`. Where it
  // reaches out of the space, one as long that ends with the space will do; one that is longer than
  // the space has no room.
  virtual Extent WindowFor(uint64_t bytes, uint64_t offset) const = 0;
  // Calls `visit` for each run that is free and begins in the range, in no order: as long as an
  // allocation could be there.
  virtual void ForEachFree(Extent range, absl::FunctionRef<void(Extent run)> visit) const = 0;
  // Calls `visit` for each allocated extent that has a byte in the range, in no order.
  virtual void ForEachAllocated(Extent range,
                                absl::FunctionRef<void(Extent extent)> visit) const = 0;
  // Allocates all that is free in the range, and what reaches out of it where a piece of a slab
  // does, as extents that are freed like any other, and adds them to `extents`.
  virtual void AllocateAllFree(Extent range, std::vector<Extent>* extents) = 0;
};

// What both have; no bytes when they have none.
Extent Intersect(Extent a, Extent b);

// What allocators say alike: kInvalidArgument unless a space can be cut at this alignment, and of
// an extent that is not allocated.
absl::Status CheckSpace(uint64_t space_bytes, uint64_t alignment);
absl::Status NotAllocated(Extent extent);

}  // namespace cairn
