#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "tiers/numa.h"

namespace cairn {

enum class ArenaPages : uint8_t {
  kHugetlb,      // MAP_HUGETLB: the system had enough reserved huge pages.
  kTransparent,  // madvise(MADV_HUGEPAGE) was taken.
  kSmall,        // Neither.
};
const char* ArenaPagesName(ArenaPages pages);

// Where its pages go, once they are taken.
struct ArenaPlacement {
  std::vector<NumaRange> ranges;  // The last goes to the arena's end. Empty: the system decides.
  std::function<absl::Status(absl::Span<std::byte>, absl::Span<const uint32_t> nodes)> place =
      PlaceMemory;
};

// One mapping of host memory for a tier, 2 MiB aligned, that never moves. Pages are touched when
// they are first used, those of MAP_HUGETLB at once. Not inherited by a forked child.
class Arena {
 public:
  // `bytes` is rounded up to 2 MiB. Tries MAP_HUGETLB, then a plain mapping with MADV_HUGEPAGE.
  // kResourceExhausted naming the figure when the system refuses the address space.
  static absl::StatusOr<std::unique_ptr<Arena>> Create(uint64_t bytes,
                                                       const ArenaPlacement& placement = {});
  ~Arena();
  Arena(const Arena&) = delete;
  Arena& operator=(const Arena&) = delete;

  std::byte* base() const { return base_; }
  uint64_t bytes() const { return bytes_; }
  ArenaPages pages() const { return pages_; }
  // Not OK: a range was refused, and from there on the system decides where pages go.
  const absl::Status& placement_status() const { return placement_status_; }

  // Of a part of memory(), in whole huge pages. Takes its pages now: using it later asks the system
  // for nothing. (Kernels before 5.14 do not know how: then as it is used.) A large part is taken
  // by several threads at once, one for each 64 MiB, 8 at most and no more than there are CPUs
  // for this process: it is the system's zeroing that takes the time.
  void Populate(absl::Span<std::byte> part) const;
  // Gives its pages back to the system, unless something else pins them. It is zeros then, and
  // takes pages where it is used. Not of reserved huge pages, which would not come back for sure.
  void GiveBack(absl::Span<std::byte> part) const;

  absl::Span<std::byte> memory() const { return {base_, static_cast<size_t>(bytes_)}; }

 private:
  Arena(std::byte* base, uint64_t bytes, ArenaPages pages, absl::Status placement_status);

  std::byte* const base_;
  const uint64_t bytes_;
  const ArenaPages pages_;
  const absl::Status placement_status_;
};

}  // namespace cairn
