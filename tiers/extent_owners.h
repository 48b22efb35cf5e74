#pragma once

#include <atomic>
#include <cstdint>
#include <utility>

#include "absl/status/statusor.h"
#include "src/base/status_macros.h"
#include "tiers/allocator.h"
#include "tiers/reserved_array.h"

namespace cairn {

// Whose copy lies in an extent of a tier: for who finds it by its place. Thread-safe.
class ExtentOwners {
 public:
  // For extents that begin at multiples of `alignment`.
  static absl::StatusOr<ExtentOwners> Create(uint64_t space_bytes, uint64_t alignment) {
    CAIRN_ASSIGN_OR_RETURN(ReservedArray<uint64_t> hashes,
                           ReservedArray<uint64_t>::Create(space_bytes / alignment));
    return ExtentOwners(std::move(hashes), alignment);
  }

  void Set(Extent extent, uint64_t key_hash) {
    std::atomic_ref(hashes_[extent.offset / alignment_]).store(key_hash, std::memory_order_relaxed);
  }
  // The hash of its key, 0 when none was told. What is freed keeps what it had, so it is a hint
  // where to look.
  uint64_t Of(Extent extent) const {
    return std::atomic_ref(hashes_[extent.offset / alignment_]).load(std::memory_order_relaxed);
  }

 private:
  ExtentOwners(ReservedArray<uint64_t> hashes, uint64_t alignment)
      : hashes_(std::move(hashes)), alignment_(alignment) {}

  mutable ReservedArray<uint64_t> hashes_;  // By the unit where an extent begins.
  uint64_t alignment_;
};

}  // namespace cairn
