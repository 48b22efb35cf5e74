#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "src/base/mutex.h"
#include "tiers/allocator.h"
#include "tiers/movable_space.h"
#include "tiers/reserved_array.h"
#include "tiers/withheld_ranges.h"

namespace cairn {

// Makes an allocator thread-safe: its pool's lock, and in front of it a stripe for each thread (64
// at most, shared beyond that) that keeps up to 16 free extents of each of the few sizes that the
// thread asks for most, and takes and gives eight at a time. So threads that allocate alike sizes
// seldom meet. What stripes keep is in the way of nobody: when the pool has no room they give all
// back, it is asked again, and nothing is kept until an eighth of it is free. No extents are kept
// that are longer than 1/4096 of the space.
//
// A free is checked without a lock, against 4 bytes for each unit of alignment (of which only those
// where something begins are ever touched).
class MagazineAllocator final : public Allocator, public MovableSpace {
 public:
  // As Allocator::Create, with 2^32 units at most.
  static absl::StatusOr<std::unique_ptr<MagazineAllocator>> Create(AllocatorKind kind,
                                                                   uint64_t space_bytes,
                                                                   uint64_t alignment);

  absl::StatusOr<Extent> Allocate(uint64_t bytes) override ABSL_LOCKS_EXCLUDED(pool_mutex_);
  absl::Status Free(Extent extent) override ABSL_LOCKS_EXCLUDED(pool_mutex_);
  uint64_t bytes_max() const override { return bytes_max_; }
  // Exact when no call is under way.
  uint64_t bytes_used() const override;
  // Without what the stripes keep.
  uint64_t largest_free_bytes() const override ABSL_LOCKS_EXCLUDED(pool_mutex_);

  // ---- As MovableSpace ----
  uint64_t end() const override { return bytes_max_; }
  uint64_t unit_bytes() const override { return uint64_t{1} << unit_shift_; }
  Extent Widen(Extent range) const override ABSL_LOCKS_EXCLUDED(pool_mutex_);
  Extent WindowFor(uint64_t bytes, uint64_t offset) const override ABSL_LOCKS_EXCLUDED(pool_mutex_);
  // But for what stripes keep.
  void ForEachFree(Extent range, absl::FunctionRef<void(Extent)> visit) const override
      ABSL_LOCKS_EXCLUDED(pool_mutex_);
  // What callers have.
  void ForEachAllocated(Extent range, absl::FunctionRef<void(Extent)> visit) const override
      ABSL_LOCKS_EXCLUDED(pool_mutex_);
  bool Withhold(Extent range) override ABSL_LOCKS_EXCLUDED(pool_mutex_);
  uint64_t withheld_bytes(Extent range) const override ABSL_LOCKS_EXCLUDED(pool_mutex_);
  std::vector<Extent> withheld_ranges() const override ABSL_LOCKS_EXCLUDED(pool_mutex_);
  void Restore(Extent range) override ABSL_LOCKS_EXCLUDED(pool_mutex_);
  absl::StatusOr<Extent> RestoreAndAllocate(Extent range, uint64_t bytes) override
      ABSL_LOCKS_EXCLUDED(pool_mutex_);
  // Neither allocated nor withheld.
  uint64_t bytes_free() const {
    const uint64_t taken = bytes_used() + withheld_bytes();
    return taken < bytes_max_ ? bytes_max_ - taken : 0;
  }
  // Of all of them.
  uint64_t withheld_bytes() const { return withheld_bytes_.load(std::memory_order_relaxed); }

 private:
  static constexpr uint32_t kExtentsMax = 16;
  static constexpr uint32_t kExtentsMoved = 8;
  static constexpr size_t kMagazines = 4;

  // Free extents for requests of one size, as the pool rounded it up.
  struct Magazine {
    uint64_t request_bytes = 0;
    uint64_t extent_bytes = 0;
    uint32_t demand = 0;  // Requests for this size more than for others in its place.
    uint32_t count = 0;
    std::array<uint64_t, kExtentsMax> offsets;
  };
  struct alignas(64) Stripe {
    Mutex mutex;  // Before pool_mutex_; never two of them.
    std::array<Magazine, kMagazines> magazines ABSL_GUARDED_BY(mutex);
    size_t next_victim ABSL_GUARDED_BY(mutex) = 0;
    std::atomic<uint64_t> bytes_used = 0;  // Written under the lock, read without. May wrap.
  };

  MagazineAllocator(std::unique_ptr<SpaceAllocator> pool, uint64_t alignment,
                    ReservedArray<uint32_t> units_allocated);

  Stripe& StripeOfThread() const;
  // Under the lock that all who write it hold, so that no other core is asked for the line.
  static void AddBytesUsed(Stripe& stripe, uint64_t change)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(stripe.mutex) {
    stripe.bytes_used.store(stripe.bytes_used.load(std::memory_order_relaxed) + change,
                            std::memory_order_relaxed);
  }
  // Of the size's magazine, or from the pool; nothing when the pool has none.
  absl::StatusOr<Extent> Take(Stripe& stripe, uint64_t request_bytes)
      ABSL_LOCKS_EXCLUDED(pool_mutex_);
  Magazine* MagazineFor(Stripe& stripe, uint64_t request_bytes)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(stripe.mutex);
  void Refill(Magazine& magazine) ABSL_EXCLUSIVE_LOCKS_REQUIRED(pool_mutex_);
  void Empty(Magazine& magazine, uint32_t left) ABSL_LOCKS_EXCLUDED(pool_mutex_);
  void NoteScarcity(bool found_room) ABSL_EXCLUSIVE_LOCKS_REQUIRED(pool_mutex_);
  void GiveAllBack() ABSL_LOCKS_EXCLUDED(pool_mutex_);
  // To the pool, or to what is withheld.
  void FreeLocked(Extent extent) ABSL_EXCLUSIVE_LOCKS_REQUIRED(pool_mutex_);
  void RestoreLocked(Extent range) ABSL_EXCLUSIVE_LOCKS_REQUIRED(pool_mutex_);
  // After the ranges that are withheld have changed.
  void NoteWithheld() ABSL_EXCLUSIVE_LOCKS_REQUIRED(pool_mutex_);
  bool MayBeWithheld(Extent extent) const {
    return extent.offset < withheld_end_.load(std::memory_order_relaxed) &&
           extent.offset + extent.bytes > withheld_begin_.load(std::memory_order_relaxed);
  }
  // As allocated by a caller.
  void Mark(Extent extent);
  bool Marked(Extent extent) const;
  bool MayKeep(uint64_t extent_bytes) const { return extent_bytes <= kept_extent_bytes_max_; }

  const int unit_shift_;
  const uint64_t bytes_max_;
  const uint64_t kept_extent_bytes_max_;
  // By unit: how long the extent is that begins there and is allocated by a caller, in units.
  mutable ReservedArray<uint32_t> units_allocated_;
  const std::unique_ptr<Stripe[]> stripes_;
  // The pool had no room, and has little since: nothing is kept. Written under its lock.
  std::atomic<bool> scarce_ = false;
  // Around all that is withheld: what is freed there is kept by no stripe. Written under its lock.
  std::atomic<uint64_t> withheld_begin_ = 0;
  std::atomic<uint64_t> withheld_end_ = 0;
  std::atomic<uint64_t> withheld_bytes_ = 0;

  mutable Mutex pool_mutex_;
  const std::unique_ptr<SpaceAllocator> pool_ ABSL_PT_GUARDED_BY(pool_mutex_);
  WithheldRanges withheld_ ABSL_GUARDED_BY(pool_mutex_);
};

}  // namespace cairn
