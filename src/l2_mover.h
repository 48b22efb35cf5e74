#pragma once

#include <cstdint>

#include "absl/container/flat_hash_set.h"
#include "src/directory.h"
#include "src/tier_eviction.h"
#include "tiers/defragmenter.h"
#include "tiers/pinned_tier.h"

namespace cairn {

// Moves copies within L2. What eviction would let go next, for as many bytes as are to be moved, is
// let go instead, as long as it is on L3.
class L2Mover final : public Defragmenter::Mover {
 public:
  // All must outlive this.
  L2Mover(Directory* directory, PinnedTier* l2, TierEviction* eviction)
      : directory_(directory), l2_(l2), eviction_(eviction) {}

  void Begin(uint64_t bytes) override { coldest_ = eviction_->Coldest(bytes); }
  bool CanMove(Extent extent) override {
    return directory_->CanRelocate(l2_->OwnerOf(extent), extent);
  }
  bool Move(Extent from) override;

 private:
  Directory* const directory_;
  PinnedTier* const l2_;
  TierEviction* const eviction_;
  absl::flat_hash_set<uint64_t> coldest_;  // Hashes of keys. Of whose turn it is to call.
};

}  // namespace cairn
