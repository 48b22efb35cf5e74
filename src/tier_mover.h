#pragma once

#include <cstdint>

#include "absl/container/flat_hash_set.h"
#include "absl/functional/any_invocable.h"
#include "src/directory.h"
#include "src/tier_eviction.h"
#include "tiers/defragmenter.h"
#include "tiers/extent_owners.h"
#include "tiers/magazine_allocator.h"

namespace cairn {

// Moves copies within L2, or within the L1 of a GPU. What eviction would let go next, for as many
// bytes as are to be moved, is let go instead, as long as it is on a tier below for good.
class TierMover final : public Defragmenter::Mover {
 public:
  // All must outlive this.
  struct Parts {
    const Gpu* gpu;  // Of whose L1; null: of L2.
    Directory* directory;
    TierEviction* eviction;
    MagazineAllocator* space;
    const ExtentOwners* owners;
    // Waits for it. Where it fails the copy is let go.
    absl::AnyInvocable<bool(Extent from, Extent to, uint64_t bytes)> copy;
  };
  explicit TierMover(Parts parts) : parts_(std::move(parts)) {}

  void Begin(uint64_t bytes) override { coldest_ = parts_.eviction->Coldest(bytes); }
  bool CanMove(Extent extent) override {
    return parts_.directory->CanRelocate(parts_.gpu, parts_.owners->Of(extent), extent);
  }
  bool Move(Extent from) override;

 private:
  Parts parts_;
  absl::flat_hash_set<uint64_t> coldest_;  // Hashes of keys. Of whose turn it is to call.
};

}  // namespace cairn
