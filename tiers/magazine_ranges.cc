// What MagazineAllocator tells of a range of its space, and withholds of it.

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
    if (!withheld_.Add(*pool_, range)) return false;
    NoteWithheld();
  }
  // What stripes keep of it comes back now, and nothing more after that: as in NoteScarcity.
  GiveAllBack();
  return true;
}

void MagazineAllocator::FreeLocked(Extent extent) {
  if (!withheld_.empty() && withheld_.Keep(extent)) {
    withheld_bytes_.store(withheld_.bytes(), std::memory_order_relaxed);
  } else {
    CAIRN_CHECK(pool_->Free(extent).ok());
  }
}

void MagazineAllocator::NoteWithheld() {
  const Extent around = withheld_.Around();
  withheld_begin_.store(around.offset, std::memory_order_relaxed);
  withheld_end_.store(around.offset + around.bytes, std::memory_order_relaxed);
  withheld_bytes_.store(withheld_.bytes(), std::memory_order_relaxed);
}

uint64_t MagazineAllocator::withheld_bytes(Extent range) const {
  MutexLock lock(pool_mutex_);
  return withheld_.bytes(range);
}

std::vector<Extent> MagazineAllocator::withheld_ranges() const {
  MutexLock lock(pool_mutex_);
  return withheld_.ranges();
}

void MagazineAllocator::RestoreLocked(Extent range) {
  withheld_.Remove(*pool_, range);
  NoteWithheld();
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
