// What MagazineAllocator tells of a range of its space, and withholds of it.

#include <algorithm>

#include "src/base/check.h"
#include "tiers/magazine_allocator.h"

namespace cairn {

Extent MagazineAllocator::Widen(Extent range) const {
  MutexLock lock(pool_mutex_);
  return pool_->Widen(range);
}

Extent MagazineAllocator::WindowFor(uint64_t bytes, uint64_t offset) const {
  MutexLock lock(pool_mutex_);
  return pool_->WindowFor(bytes, offset);
}

void MagazineAllocator::ForEachFree(Extent range, absl::FunctionRef<void(Extent)> visit) const {
  MutexLock lock(pool_mutex_);
  pool_->ForEachFree(range, visit);
}

void MagazineAllocator::ForEachAllocated(Extent range,
                                         absl::FunctionRef<void(Extent)> visit) const {
  MutexLock lock(pool_mutex_);
  pool_->ForEachAllocated(range, [&](Extent extent) {
    if (Marked(extent)) visit(extent);
  });
}

bool MagazineAllocator::Withhold(Extent range) {
  {
    MutexLock lock(pool_mutex_);
    for (const Withheld& other : withheld_) {
      if (Intersect(other.range, range).bytes > 0) return false;
    }
    Withheld& withheld = withheld_.emplace_back();
    withheld.range = range;
    for (const Withheld& neighbour : withheld_) {
      for (const Extent& extent : neighbour.extents) Count(withheld, extent);
    }
    std::vector<Extent> free;
    pool_->Divide(range);
    pool_->AllocateAllFree(range, &free);
    for (const Extent& extent : free) AddTo(withheld, extent);
    NoteWithheld();
  }
  // What stripes keep of it comes back now, and nothing more after that: as in NoteScarcity.
  GiveAllBack();
  return true;
}

void MagazineAllocator::FreeLocked(Extent extent) {
  if (Withheld* const withheld = WithheldAround(extent)) {
    AddTo(*withheld, extent);
  } else {
    CAIRN_CHECK(pool_->Free(extent).ok());
  }
}

void MagazineAllocator::AddTo(Withheld& withheld, Extent extent) {
  withheld.extents.push_back(extent);
  for (Withheld& each : withheld_) Count(each, extent);
}

void MagazineAllocator::Count(Withheld& withheld, Extent extent) {
  const uint64_t bytes = Intersect(extent, withheld.range).bytes;
  withheld.bytes += bytes;
  withheld_bytes_.store(withheld_bytes_.load(std::memory_order_relaxed) + bytes,
                        std::memory_order_relaxed);
}

MagazineAllocator::Withheld* MagazineAllocator::WithheldAround(Extent extent) {
  for (Withheld& withheld : withheld_) {
    if (Intersect(withheld.range, extent).bytes > 0) return &withheld;
  }
  return nullptr;
}

void MagazineAllocator::NoteWithheld() {
  uint64_t begin = withheld_.empty() ? 0 : withheld_.front().range.offset;
  uint64_t end = 0;
  for (const Withheld& withheld : withheld_) {
    begin = std::min(begin, withheld.range.offset);
    end = std::max(end, withheld.range.offset + withheld.range.bytes);
  }
  withheld_begin_.store(begin, std::memory_order_relaxed);
  withheld_end_.store(end, std::memory_order_relaxed);
}

uint64_t MagazineAllocator::withheld_bytes(Extent range) const {
  MutexLock lock(pool_mutex_);
  for (const Withheld& withheld : withheld_) {
    if (withheld.range == range) return withheld.bytes;
  }
  return 0;
}

std::vector<Extent> MagazineAllocator::withheld_ranges() const {
  MutexLock lock(pool_mutex_);
  std::vector<Extent> ranges;
  for (const Withheld& withheld : withheld_) ranges.push_back(withheld.range);
  return ranges;
}

void MagazineAllocator::RestoreLocked(Extent range) {
  const auto found = std::find_if(withheld_.begin(), withheld_.end(),
                                  [&](const Withheld& one) { return one.range == range; });
  CAIRN_CHECK(found != withheld_.end());
  const std::vector<Extent> extents = std::move(found->extents);
  withheld_bytes_.store(withheld_bytes_.load(std::memory_order_relaxed) - found->bytes,
                        std::memory_order_relaxed);
  withheld_.erase(found);
  NoteWithheld();
  // What reaches into a neighbour that is withheld too stays with that one, and is counted there.
  for (const Extent& extent : extents) {
    if (Withheld* const neighbour = WithheldAround(extent)) {
      neighbour->extents.push_back(extent);
    } else {
      CAIRN_CHECK(pool_->Free(extent).ok());
    }
  }
}

void MagazineAllocator::Restore(Extent range) {
  MutexLock lock(pool_mutex_);
  RestoreLocked(range);
  NoteScarcity(true);
}

absl::StatusOr<Extent> MagazineAllocator::RestoreAndAllocate(Extent range, uint64_t bytes) {
  Stripe& stripe = StripeOfThread();
  absl::StatusOr<Extent> extent;
  {
    MutexLock lock(stripe.mutex);
    MutexLock pool_lock(pool_mutex_);
    RestoreLocked(range);
    extent = pool_->Allocate(bytes);
    NoteScarcity(extent.ok());
    if (extent.ok()) AddBytesUsed(stripe, extent->bytes);
  }
  if (extent.ok()) Mark(*extent);
  return extent;
}

}  // namespace cairn
