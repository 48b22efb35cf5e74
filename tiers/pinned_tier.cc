#include "tiers/pinned_tier.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "src/base/check.h"
#include "src/base/status_macros.h"

namespace cairn {

absl::StatusOr<std::unique_ptr<PinnedTier>> PinnedTier::Create(uint64_t bytes_max, Device* device,
                                                               const PinnedTierOptions& options) {
  const uint64_t bytes = bytes_max / kAlignment * kAlignment;
  CAIRN_ASSIGN_OR_RETURN(std::unique_ptr<Arena> arena, Arena::Create(bytes, options.placement));
  CAIRN_ASSIGN_OR_RETURN(std::unique_ptr<MagazineAllocator> allocator,
                         MagazineAllocator::Create(options.allocator, bytes, kAlignment));
  CAIRN_ASSIGN_OR_RETURN(ExtentOwners owners, ExtentOwners::Create(bytes, kAlignment));
  std::unique_ptr<PinnedTier> tier(new PinnedTier(
      std::move(arena), bytes, device, std::move(allocator), std::move(owners), options));
  if (device->is_gpu()) tier->TakeBorders();
  return tier;
}

PinnedTier::PinnedTier(std::unique_ptr<Arena> arena, uint64_t bytes_max, Device* device,
                       std::unique_ptr<MagazineAllocator> allocator, ExtentOwners owners,
                       const PinnedTierOptions& options)
    : arena_(std::move(arena)),
      bytes_max_(bytes_max),
      device_(device),
      pin_chunk_bytes_(options.pin_chunk_bytes),
      allocator_(std::move(allocator)),
      mix_(bytes_max),
      owners_(std::move(owners)),
      kept_by_gpu_(device->is_gpu()) {}

PinnedTier::~PinnedTier() {
  StopPinning();
  // The mapping goes right after, which ends the pinning too: a refusal changes nothing.
  const uint64_t end = bytes_pinned_.load(std::memory_order_acquire);
  for (uint64_t offset = 0; offset < end; offset += pin_chunk_bytes_) {
    device_->UnpinMemory(Chunk(offset)).IgnoreError();
  }
}

// When there is nothing else to be had, an allocator gives what there is. Nobody else asks yet.
void PinnedTier::TakeBorders() {
  for (uint64_t begin = pin_chunk_bytes_; begin < bytes_max_; begin += pin_chunk_bytes_) {
    const Extent before = {0, begin};
    const uint64_t behind_begin = begin + kAlignment;
    const Extent behind = {behind_begin, bytes_max_ - std::min(behind_begin, bytes_max_)};
    CAIRN_CHECK(allocator_->Withhold(before));
    if (behind.bytes > 0) CAIRN_CHECK(allocator_->Withhold(behind));
    const absl::StatusOr<Extent> border = allocator_->Allocate(kAlignment);
    CAIRN_CHECK(border.ok() && border->offset == begin && border->bytes == kAlignment);
    allocator_->Restore(before);
    if (behind.bytes > 0) allocator_->Restore(behind);
    borders_.push_back(*border);
  }
  border_bytes_ = borders_.size() * kAlignment;
}

void PinnedTier::GiveBordersBack() {
  border_bytes_ = 0;
  for (const Extent border : borders_) Release(border);
  borders_.clear();
}

void PinnedTier::StartPinning(PinningEnded ended) {
  if (!device_->is_gpu()) return;
  pinning_ended_ = std::move(ended);
  const absl::Status started = pinner_.Start("cairn-pinner", [this] { PinChunks(); });
  if (!started.ok()) EndedPinning(started);
}

void PinnedTier::StopPinning() {
  EndPinning();
  pinner_.Join();
}

void PinnedTier::PinChunks() {
  uint64_t pinned = 0;
  absl::Status status;
  while (pinned < arena_->bytes() && status.ok()) {
    if (stop_pinning_.load(std::memory_order_relaxed)) return;
    const absl::Span<std::byte> chunk = Chunk(pinned);
    // The driver would take its pages one after the other.
    arena_->Populate(chunk);
    status = device_->PinMemory(chunk);
    if (!status.ok()) break;
    pinned += chunk.size();
    bytes_pinned_.store(pinned, std::memory_order_release);
  }
  EndedPinning(status);
}

void PinnedTier::EndedPinning(absl::Status status) {
  if (!status.ok()) {
    status = absl::Status(status.code(), absl::StrCat(bytes_pinned(), " of ", bytes_max_,
                                                      " bytes are pinned: ", status.message()));
    MutexLock lock(pin_mutex_);
    pin_status_ = status;
  }
  if (bytes_pinned() == 0) {
    GiveBordersBack();
    kept_by_gpu_.store(false, std::memory_order_release);
  }
  pinning_ended_(status);
}

absl::Status PinnedTier::pin_status() const {
  MutexLock lock(pin_mutex_);
  return pin_status_;
}

// The arena may end behind it.
uint64_t PinnedTier::bytes_pinned() const {
  return std::min(bytes_max_, bytes_pinned_.load(std::memory_order_acquire));
}

uint64_t PinnedTier::bytes_used() const {
  const uint64_t borders = border_bytes_.load(std::memory_order_relaxed);
  return std::max(allocator_->bytes_used(), borders) - borders;
}

Fragmentation PinnedTier::fragmentation() const {
  return MeasureFragmentation(bytes_max_, mix_, [this](Extent part, VisitRun visit) {
    allocator_->ForEachFree(part, visit);
  });
}

void PinnedTier::Release(Extent extent) { CAIRN_CHECK(allocator_->Free(extent).ok()); }

}  // namespace cairn
