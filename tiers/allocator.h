#pragma once

#include <cstdint>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

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
// the same code carves host memory, GPU memory and files. Thread-compatible: its tier locks.
class Allocator {
 public:
  virtual ~Allocator() = default;

  // An extent of at least `bytes`, rounded up to the alignment. kResourceExhausted when no free
  // run is that long; kInvalidArgument for 0 bytes. Never blocks, never evicts.
  virtual absl::StatusOr<Extent> Allocate(uint64_t bytes) = 0;

  // kInvalidArgument, and nothing changes, unless this very extent is allocated.
  virtual absl::Status Free(Extent extent) = 0;

  // Makes two allocated extents of one, the first `bytes` long; the second begins where it ends.
  // kInvalidArgument, and nothing changes, unless this very extent is allocated and `bytes` is a
  // multiple of the alignment within it.
  virtual absl::Status Split(Extent extent, uint64_t bytes) = 0;

  virtual uint64_t bytes_max() const = 0;   // What could ever be allocated.
  virtual uint64_t bytes_used() const = 0;  // Allocated.
  virtual uint64_t largest_free_bytes() const = 0;
};

}  // namespace cairn
