#pragma once

#include <cstdint>
#include <memory>

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

// Which bytes of an address space are taken. Knows offsets only and never touches the bytes, so
// the same code carves host memory, GPU memory and files. Thread-compatible, so its tier locks,
// unless an implementation says that it is thread-safe.
class Allocator {
 public:
  // Of the space [0, space_bytes): extents begin at multiples of `alignment`, a power of two, and
  // are multiples of it long. kInvalidArgument when the space is no multiple of it, which one
  // that is smaller is not.
  static absl::StatusOr<std::unique_ptr<Allocator>> Create(AllocatorKind kind, uint64_t space_bytes,
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

// What allocators say alike: kInvalidArgument unless a space can be cut at this alignment, and of
// an extent that is not allocated.
absl::Status CheckSpace(uint64_t space_bytes, uint64_t alignment);
absl::Status NotAllocated(Extent extent);

}  // namespace cairn
