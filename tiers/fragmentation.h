#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "absl/functional/function_ref.h"
#include "tiers/allocator.h"

namespace cairn {

// The sizes that a tier was asked for of late, by the bytes of each: what comes counts in full and
// half as much when `bytes_recent` more have come. Thread-safe; a figure may be out by what threads
// do at one moment.
class SizeMix {
 public:
  struct Size {
    uint64_t bytes = 0;
    uint64_t bytes_asked = 0;
  };

  explicit SizeMix(uint64_t bytes_recent) : bytes_recent_(bytes_recent) {}

  void Note(uint64_t bytes);
  // Sizes within an eighth of one another are one: the least of them, so that what just fits a size
  // that many have does not look too small for it. At most 16, which most was asked of.
  std::vector<Size> Sizes() const;

 private:
  static constexpr size_t kClassesAnOctave = 8;
  struct Class {
    std::atomic<uint64_t> bytes_asked = 0;
    std::atomic<uint64_t> bytes_least = 0;  // 0: none.
  };

  const uint64_t bytes_recent_;
  std::atomic<uint64_t> bytes_asked_ = 0;
  std::array<Class, 64 * kClassesAnOctave> classes_;
};

// In how small pieces the free space of a tier lies.
struct Fragmentation {
  uint64_t bytes_free = 0;
  uint64_t bytes_free_longest = 0;  // Of the free runs.
  // The share of the free bytes that tensors of the sizes asked for of late cannot use: a free run
  // has room for as many of a size as fit it whole, and each size counts by the bytes that were
  // asked of it. 0 when nothing is free or was asked for.
  double unusable_share = 0;
  // The size that adds most to that.
  uint64_t bytes_most_unusable = 0;

  // 1 - longest / free: what is often given instead. Near 1 for any tier that has been used.
  double scattered_share() const {
    return bytes_free == 0
               ? 0
               : 1 - static_cast<double>(bytes_free_longest) / static_cast<double>(bytes_free);
  }
};

// Asks for the free runs that begin in one part of the space [0, space_bytes) after the other, so
// that no lock is held for long.
using VisitRun = absl::FunctionRef<void(Extent run)>;
Fragmentation MeasureFragmentation(uint64_t space_bytes, const SizeMix& mix,
                                   absl::FunctionRef<void(Extent part, VisitRun visit)> visit_free);

}  // namespace cairn
