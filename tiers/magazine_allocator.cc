#include "tiers/magazine_allocator.h"

#include <algorithm>
#include <bit>
#include <limits>

#include "absl/strings/str_cat.h"
#include "src/base/check.h"
#include "src/base/status_macros.h"

namespace cairn {
namespace {

constexpr uint32_t kStripes = 64;
// Of the space: the largest extent that is kept.
constexpr uint64_t kKeptPart = 4096;
// Of the space: free again before anything more is kept.
constexpr uint64_t kFreePartWanted = 8;
// Requests more than for others after which a size has a magazine.
constexpr uint32_t kDemandWanted = 16;
constexpr uint32_t kDemandMax = 64;

std::atomic<uint32_t> threads_counted = 0;

uint32_t ThreadNumber() {
  thread_local const uint32_t number = threads_counted.fetch_add(1, std::memory_order_relaxed);
  return number;
}

}  // namespace

absl::StatusOr<std::unique_ptr<MagazineAllocator>> MagazineAllocator::Create(AllocatorKind kind,
                                                                             uint64_t space_bytes,
                                                                             uint64_t alignment) {
  CAIRN_ASSIGN_OR_RETURN(std::unique_ptr<SpaceAllocator> pool,
                         Allocator::Create(kind, space_bytes, alignment));
  const uint64_t units = space_bytes / alignment;
  if (units > std::numeric_limits<uint32_t>::max()) {
    return absl::InvalidArgumentError(absl::StrCat("space of ", space_bytes, " bytes has ", units,
                                                   " units of ", alignment, ": more than 2^32"));
  }
  CAIRN_ASSIGN_OR_RETURN(ReservedArray<uint32_t> units_allocated,
                         ReservedArray<uint32_t>::Create(units));
  return std::unique_ptr<MagazineAllocator>(
      new MagazineAllocator(std::move(pool), alignment, std::move(units_allocated)));
}

MagazineAllocator::MagazineAllocator(std::unique_ptr<SpaceAllocator> pool, uint64_t alignment,
                                     ReservedArray<uint32_t> units_allocated)
    : unit_shift_(std::countr_zero(alignment)),
      bytes_max_(pool->bytes_max()),
      kept_extent_bytes_max_(bytes_max_ / kKeptPart),
      units_allocated_(std::move(units_allocated)),
      stripes_(std::make_unique<Stripe[]>(kStripes)),
      pool_(std::move(pool)) {}

MagazineAllocator::Stripe& MagazineAllocator::StripeOfThread() const {
  return stripes_[ThreadNumber() % kStripes];
}

absl::StatusOr<Extent> MagazineAllocator::Allocate(uint64_t bytes) {
  if (bytes == 0) return absl::InvalidArgumentError("allocation of 0 bytes");
  if (bytes > bytes_max_) {
    return absl::ResourceExhaustedError(
        absl::StrCat("no room for ", bytes, " bytes in ", bytes_max_));
  }
  const uint64_t unit_bytes = uint64_t{1} << unit_shift_;
  const uint64_t request_bytes = (bytes + unit_bytes - 1) & ~(unit_bytes - 1);
  Stripe& stripe = StripeOfThread();
  absl::StatusOr<Extent> extent = Take(stripe, request_bytes);
  if (!extent.ok()) {
    if (!absl::IsResourceExhausted(extent.status())) return extent;
    GiveAllBack();
    extent = Take(stripe, request_bytes);
    if (!extent.ok()) return extent;
  }
  Mark(*extent);
  return extent;
}

absl::StatusOr<Extent> MagazineAllocator::Take(Stripe& stripe, uint64_t request_bytes) {
  MutexLock lock(stripe.mutex);
  Magazine* const magazine = MayKeep(request_bytes) ? MagazineFor(stripe, request_bytes) : nullptr;
  absl::StatusOr<Extent> extent;
  if (magazine != nullptr && magazine->count > 0) {
    extent = Extent{magazine->offsets[--magazine->count], magazine->extent_bytes};
  } else {
    MutexLock pool_lock(pool_mutex_);
    extent = pool_->Allocate(request_bytes);
    NoteScarcity(extent.ok());
    if (!extent.ok()) return extent;
    if (magazine != nullptr) {
      magazine->extent_bytes = extent->bytes;
      if (!scarce_.load(std::memory_order_relaxed)) Refill(*magazine);
    }
  }
  AddBytesUsed(stripe, extent->bytes);
  return extent;
}

// Null unless the size is asked for often. One that is takes the place of one that is so no more:
// a request for a size without a place costs one of the places, in turn, some of its demand.
MagazineAllocator::Magazine* MagazineAllocator::MagazineFor(Stripe& stripe,
                                                            uint64_t request_bytes) {
  for (Magazine& magazine : stripe.magazines) {
    if (magazine.request_bytes != request_bytes) continue;
    if (magazine.demand < kDemandMax) ++magazine.demand;
    return magazine.demand >= kDemandWanted ? &magazine : nullptr;
  }
  Magazine& victim = stripe.magazines[stripe.next_victim++ % kMagazines];
  if (victim.demand > 0) {
    --victim.demand;
  } else {
    Empty(victim, 0);
    victim.request_bytes = request_bytes;
    victim.extent_bytes = 0;
  }
  return nullptr;
}

void MagazineAllocator::Refill(Magazine& magazine) {
  while (magazine.count < kExtentsMoved - 1) {
    const absl::StatusOr<Extent> extent = pool_->Allocate(magazine.request_bytes);
    if (!extent.ok()) return;
    if (extent->bytes != magazine.extent_bytes) {
      FreeLocked(*extent);
      return;
    }
    magazine.offsets[magazine.count++] = extent->offset;
  }
}

absl::Status MagazineAllocator::Free(Extent extent) {
  const uint64_t unit = extent.offset >> unit_shift_;
  uint32_t units = static_cast<uint32_t>(extent.bytes >> unit_shift_);
  if (units == 0 || unit >= units_allocated_.size() || unit << unit_shift_ != extent.offset ||
      uint64_t{units} << unit_shift_ != extent.bytes ||
      !std::atomic_ref(units_allocated_[unit])
           .compare_exchange_strong(units, 0, std::memory_order_relaxed)) {
    return NotAllocated(extent);
  }
  Stripe& stripe = StripeOfThread();
  MutexLock lock(stripe.mutex);
  AddBytesUsed(stripe, 0 - extent.bytes);
  for (Magazine& magazine : stripe.magazines) {
    if (magazine.extent_bytes != extent.bytes || magazine.demand < kDemandWanted) continue;
    if (MayBeWithheld(extent) || scarce_.load(std::memory_order_relaxed)) break;
    if (magazine.count == kExtentsMax) Empty(magazine, kExtentsMax - kExtentsMoved);
    magazine.offsets[magazine.count++] = extent.offset;
    return absl::OkStatus();
  }
  MutexLock pool_lock(pool_mutex_);
  FreeLocked(extent);
  NoteScarcity(true);
  return absl::OkStatus();
}

// Who frees it has it from who allocated it, which orders the two.
void MagazineAllocator::Mark(Extent extent) {
  std::atomic_ref(units_allocated_[extent.offset >> unit_shift_])
      .store(static_cast<uint32_t>(extent.bytes >> unit_shift_), std::memory_order_relaxed);
}

bool MagazineAllocator::Marked(Extent extent) const {
  return std::atomic_ref(units_allocated_[extent.offset >> unit_shift_])
             .load(std::memory_order_relaxed) != 0;
}

// Whoever locks a stripe after GiveAllBack did sees what was noted before it.
void MagazineAllocator::NoteScarcity(bool found_room) {
  const bool scarce =
      !found_room || (scarce_.load(std::memory_order_relaxed) &&
                      pool_->bytes_used() > bytes_max_ - bytes_max_ / kFreePartWanted);
  scarce_.store(scarce, std::memory_order_relaxed);
}

void MagazineAllocator::Empty(Magazine& magazine, uint32_t left) {
  if (magazine.count <= left) return;
  MutexLock lock(pool_mutex_);
  while (magazine.count > left) {
    FreeLocked({magazine.offsets[--magazine.count], magazine.extent_bytes});
  }
}

void MagazineAllocator::GiveAllBack() {
  const uint32_t stripes = std::min(threads_counted.load(std::memory_order_relaxed), kStripes);
  for (uint32_t i = 0; i < stripes; ++i) {
    Stripe& stripe = stripes_[i];
    MutexLock lock(stripe.mutex);
    for (Magazine& magazine : stripe.magazines) Empty(magazine, 0);
  }
}

uint64_t MagazineAllocator::bytes_used() const {
  uint64_t bytes = 0;
  for (uint32_t i = 0; i < kStripes; ++i) {
    bytes += stripes_[i].bytes_used.load(std::memory_order_relaxed);
  }
  return static_cast<uint64_t>(
      std::clamp<int64_t>(static_cast<int64_t>(bytes), 0, static_cast<int64_t>(bytes_max_)));
}

uint64_t MagazineAllocator::largest_free_bytes() const {
  MutexLock lock(pool_mutex_);
  return pool_->largest_free_bytes();
}

}  // namespace cairn
