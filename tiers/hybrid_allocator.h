#pragma once

#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "tiers/allocator.h"
#include "tiers/reserved_array.h"
#include "tiers/tlsf.h"

namespace cairn {

// Slabs of blocks of exactly one size for the few sizes that most tensors have, and two-level
// segregated fit for the rest. KV blocks of a model are all alike and mostly no power of two: in a
// slab they waste nothing, and a freed one is the next one's place. Every operation takes a time
// that does not depend on how much is allocated; a slab that is made or given back takes up to 64
// steps. A slab whose blocks are all free goes back, so that what was many small ones can be one
// large one; for a range that is to be emptied a slab is cut in two.
//
// A size is hot when it is asked for 128 times within some 8192 requests for sizes that are not,
// and if four blocks of it fit the largest slab: 64 MiB, or 1/16 of a smaller space. It is hot
// until its last slab is gone. Slabs grow with what is in use of their size, so that what they
// hold free stays a small part of it.
//
// Takes 24 bytes of memory for each free run and each extent that is in no slab, 56 for each slab,
// and 4 for 256 units of alignment. Thread-compatible.
class HybridAllocator final : public SpaceAllocator {
 public:
  struct Options {
    // How often a size is asked for before it is hot. 0: none is, all is segregated fit.
    uint32_t hot_requests = 128;
  };

  // Extents of [0, space_bytes), which begin at multiples of `alignment` (a power of two) and are
  // multiples of it long. kInvalidArgument when the space is none, or has 2^31 or more of them.
  static absl::StatusOr<std::unique_ptr<HybridAllocator>> Create(uint64_t space_bytes,
                                                                 uint64_t alignment) {
    return Create(space_bytes, alignment, Options());
  }
  static absl::StatusOr<std::unique_ptr<HybridAllocator>> Create(uint64_t space_bytes,
                                                                 uint64_t alignment,
                                                                 const Options& options);

  // A hot size is rounded up to the alignment, others by up to 1/32 more.
  absl::StatusOr<Extent> Allocate(uint64_t bytes) override;
  absl::Status Free(Extent extent) override;
  uint64_t bytes_max() const override { return space_bytes_; }
  uint64_t bytes_used() const override { return units_used_ << unit_shift_; }
  // Of the space that is in no slab.
  uint64_t largest_free_bytes() const override {
    return uint64_t{tlsf_.LongestFree()} << unit_shift_;
  }
  // To whole blocks of slabs.
  Extent Widen(Extent range) const override;
  void Divide(Extent range) override;
  // Rounded up as what is not of a hot size.
  Extent WindowFor(uint64_t bytes, uint64_t offset) const override;
  // Each free block of a slab by itself.
  void ForEachFree(Extent range, absl::FunctionRef<void(Extent)> visit) const override;
  void ForEachAllocated(Extent range, absl::FunctionRef<void(Extent)> visit) const override;
  void AllocateAllFree(Extent range, std::vector<Extent>* extents) override;

 private:
  // What is known of the requests for a size.
  struct Demand {
    uint16_t requests = 0;
    uint16_t slab_class = 0;  // 0: not hot.
  };
  struct SlabClass {
    uint32_t number = 0;
    uint32_t units = 0;  // Of a block.
    uint64_t units_inverse = 0;
    uint32_t blocks = 0;           // Of all of its slabs.
    uint32_t first_with_room = 0;  // Slabs with a free block: taken from first, added last, so
    uint32_t last_with_room = 0;   // that those added have time to become free altogether.
  };
  struct alignas(32) Slab {
    uint64_t free_blocks;  // A bit each.
    uint32_t begin;
    uint32_t units;  // Of all blocks.
    uint16_t blocks;
    uint16_t slab_class;
    uint32_t run;  // Of tlsf_.
    uint32_t previous_with_room;
    uint32_t next_with_room;  // Of an unused index: the next unused one.
  };
  static constexpr uint32_t kNone = 0;

  HybridAllocator(uint64_t space_bytes, uint64_t alignment, const Options& options, Tlsf tlsf,
                  ReservedArray<Slab> slabs);

  // What was found: no units where there is no room.
  struct Found {
    uint32_t begin = 0;
    uint32_t units = 0;
  };
  Found TakeFromSlab(SlabClass& slab_class);
  Found TakeFromTlsf(uint32_t units);
  absl::Status FreeRun(uint32_t run, Extent extent);
  // The slab that a run of tlsf_ is, or kNone.
  uint32_t SlabOf(uint32_t run) const { return tlsf_.owner(run); }
  Extent Bytes(uint32_t begin, uint32_t units) const {
    return {uint64_t{begin} << unit_shift_, uint64_t{units} << unit_shift_};
  }
  // The blocks of a slab that have a byte in the range, a bit each.
  uint64_t BlocksIn(const Slab& slab, Extent range) const;
  Extent BlockOf(const Slab& slab, uint32_t block) const {
    const uint32_t units = slab_classes_[slab.slab_class].units;
    return Bytes(slab.begin + block * units, units);
  }

  bool MayBeHot(uint32_t units) const { return units < demands_.size(); }
  // Whether this request makes the size a hot one.
  bool BecomesHot(uint32_t units);
  void Heat(uint32_t units);
  void Cool(SlabClass& slab_class);
  uint32_t NewSlab(SlabClass& slab_class);
  uint32_t UnusedSlab();
  // The slab around the unit, if it is one where a block but not the slab begins, becomes two.
  void DivideAt(uint32_t unit);
  void GiveBack(uint32_t slab);
  void AddWithRoom(SlabClass& slab_class, uint32_t slab);
  void RemoveWithRoom(SlabClass& slab_class, uint32_t slab);

  absl::Status NoRoom(uint64_t bytes) const;

  const uint64_t space_bytes_;
  const int unit_shift_;
  const uint32_t hot_requests_;
  const uint32_t slab_units_max_;

  Tlsf tlsf_;
  uint64_t units_used_ = 0;
  ReservedArray<Slab> slabs_;
  uint32_t slabs_made_ = 1;  // Indices below it have been used.
  uint32_t unused_slab_ = kNone;
  std::vector<Demand> demands_;  // By units, for those that may be hot.
  uint32_t requests_counted_ = 0;
  std::vector<SlabClass> slab_classes_ = {{}};
  std::vector<uint16_t> unused_classes_;
};

}  // namespace cairn
