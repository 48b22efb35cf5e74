#pragma once

#include <sys/uio.h>

#include <cstddef>
#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"

namespace cairn {

// Which memory lies in which slot of a ring's table of fixed buffers. Keeps the books; the ring
// does the registering. Thread-compatible.
class FixedMemory {
 public:
  // The kernel's limit on one slot; a larger region takes several.
  static constexpr size_t kPartBytesMax = size_t{1} << 30;

  struct Part {
    std::byte* begin = nullptr;
    size_t size = 0;
    uint32_t slot = 0;
    const std::byte* region_begin = nullptr;  // Of the region it is a part of.
  };

  explicit FixedMemory(uint32_t slots_max);

  // The parts of a new region, by address. kInvalidArgument: empty, or overlaps another;
  // kResourceExhausted: too few slots. Then nothing has changed.
  absl::StatusOr<std::vector<Part>> Add(absl::Span<std::byte> region);

  // The parts of a region as it was added, now forgotten; empty when there is none such.
  std::vector<Part> Remove(absl::Span<std::byte> region);

  // The slot that holds all of the piece, or -1.
  int Find(const iovec& piece) const;

 private:
  const uint32_t slots_max_;
  uint32_t slots_used_ = 0;           // Slots from here on were never taken.
  std::vector<uint32_t> free_slots_;  // Given back.
  std::vector<Part> parts_;           // By address.
};

}  // namespace cairn
