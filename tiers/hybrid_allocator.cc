#include "tiers/hybrid_allocator.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <limits>

#include "absl/strings/str_cat.h"
#include "src/base/status_macros.h"

namespace cairn {
namespace {

constexpr uint64_t kSlabBytesMax = uint64_t{64} << 20;
constexpr uint32_t kSlabUnitsMax = uint32_t{1} << 20;
constexpr uint64_t kSlabsASpaceMin = 16;
constexpr uint32_t kBlocksASlabMax = 64;  // The bits of a word.
constexpr uint32_t kBlocksASlabMin = 4;   // Of the largest slab. More would be too coarse.
// Of the sizes that may be hot: what is known of them stays in the processor's cache.
constexpr uint32_t kHotUnitsMax = uint32_t{1} << 15;
// A new slab has this part of what is in use of its size.
constexpr uint64_t kSlabShare = 8;
// After so many the counts are halved: what is asked for less than once in 128 is not hot.
constexpr uint32_t kRequestsAWindow = 8192;
// A multiplication by the inverse is the exact quotient of a unit within a slab, which is less than
// 2^20, by the units of a block, at most 2^15.
constexpr int kInverseShift = 40;

constexpr uint64_t AllBlocks(uint32_t blocks) { return ~uint64_t{0} >> (kBlocksASlabMax - blocks); }

}  // namespace

absl::StatusOr<std::unique_ptr<HybridAllocator>> HybridAllocator::Create(uint64_t space_bytes,
                                                                         uint64_t alignment,
                                                                         const Options& options) {
  CAIRN_RETURN_IF_ERROR(CheckSpace(space_bytes, alignment));
  const uint64_t units = space_bytes / alignment;
  if (units > Tlsf::kUnitsMax) {
    return absl::InvalidArgumentError(absl::StrCat("space of ", space_bytes, " bytes has ", units,
                                                   " units of ", alignment, ", ", Tlsf::kUnitsMax,
                                                   " at most"));
  }
  CAIRN_ASSIGN_OR_RETURN(Tlsf tlsf, Tlsf::Create(static_cast<uint32_t>(units)));
  CAIRN_ASSIGN_OR_RETURN(ReservedArray<Slab> slabs, ReservedArray<Slab>::Create(units + 1));
  return std::unique_ptr<HybridAllocator>(
      new HybridAllocator(space_bytes, alignment, options, std::move(tlsf), std::move(slabs)));
}

HybridAllocator::HybridAllocator(uint64_t space_bytes, uint64_t alignment, const Options& options,
                                 Tlsf tlsf, ReservedArray<Slab> slabs)
    : space_bytes_(space_bytes),
      unit_shift_(std::countr_zero(alignment)),
      hot_requests_(options.hot_requests),
      slab_units_max_(static_cast<uint32_t>(std::min<uint64_t>(
          kSlabUnitsMax, std::min(kSlabBytesMax, space_bytes / kSlabsASpaceMin) / alignment))),
      tlsf_(std::move(tlsf)),
      slabs_(std::move(slabs)) {
  if (hot_requests_ > 0) {
    demands_.resize(std::min(slab_units_max_ / kBlocksASlabMin, kHotUnitsMax) + 1);
  }
}

HybridAllocator::Found HybridAllocator::TakeFromTlsf(uint32_t units) {
  const Tlsf::Run run = tlsf_.Allocate(units);
  if (run.block == Tlsf::kNone) return {};
  return {tlsf_.block(run.block).begin, run.units};
}

inline HybridAllocator::Found HybridAllocator::TakeFromSlab(SlabClass& slab_class) {
  uint32_t number = slab_class.first_with_room;
  if (number == kNone) [[unlikely]] {
    number = NewSlab(slab_class);
    if (number == kNone) return {};
  }
  Slab& slab = slabs_[number];
  const uint32_t block = static_cast<uint32_t>(std::countr_zero(slab.free_blocks));
  slab.free_blocks &= slab.free_blocks - 1;
  if (slab.free_blocks == 0) [[unlikely]]
    RemoveWithRoom(slab_class, number);
  return {slab.begin + block * slab_class.units, slab_class.units};
}

absl::StatusOr<Extent> HybridAllocator::Allocate(uint64_t bytes) {
  if (bytes == 0) [[unlikely]]
    return absl::InvalidArgumentError("allocation of 0 bytes");
  if (bytes > space_bytes_) [[unlikely]]
    return NoRoom(bytes);
  const uint32_t units = static_cast<uint32_t>((bytes - 1) >> unit_shift_) + 1;
  Found found;
  if (MayBeHot(units) && (demands_[units].slab_class != 0 || BecomesHot(units))) {
    found = TakeFromSlab(slab_classes_[demands_[units].slab_class]);
  } else {
    found = TakeFromTlsf(units);
  }
  if (found.units == 0) [[unlikely]]
    return NoRoom(bytes);
  units_used_ += found.units;
  // Written as one: a caller that copies it as one would wait for two halves to reach the cache.
  using Halves = uint64_t __attribute__((vector_size(sizeof(Extent))));
  const Halves halves = Halves{found.begin, found.units} << unit_shift_;
  absl::StatusOr<Extent> extent(absl::in_place);
  std::memcpy(static_cast<void*>(&*extent), &halves, sizeof(halves));
  return extent;
}

absl::Status HybridAllocator::Free(Extent extent) {
  if (extent.offset >= space_bytes_) [[unlikely]]
    return NotAllocated(extent);
  const uint32_t unit = static_cast<uint32_t>(extent.offset >> unit_shift_);
  uint32_t number = tlsf_.OwnerOfPage(unit);
  if (number == 0 || unit - slabs_[number].begin >= slabs_[number].units) {
    const uint32_t run = number == 0 ? tlsf_.Find(unit) : tlsf_.FindFrom(slabs_[number].run, unit);
    // It may begin behind the unit.
    if (run == Tlsf::kNone || tlsf_.block(run).begin > unit) return NotAllocated(extent);
    number = SlabOf(run);
    if (number == kNone) return FreeRun(run, extent);
  }

  Slab& slab = slabs_[number];
  SlabClass& slab_class = slab_classes_[slab.slab_class];
  const uint64_t block = ((unit - slab.begin) * slab_class.units_inverse) >> kInverseShift;
  const uint64_t bit = uint64_t{1} << block;
  if (BlockOf(slab, static_cast<uint32_t>(block)) != extent || (slab.free_blocks & bit) != 0)
      [[unlikely]] {
    return NotAllocated(extent);
  }
  if (slab.free_blocks == 0) [[unlikely]]
    AddWithRoom(slab_class, number);
  slab.free_blocks |= bit;
  units_used_ -= slab_class.units;
  if (slab.free_blocks == AllBlocks(slab.blocks)) [[unlikely]]
    GiveBack(number);
  return absl::OkStatus();
}

absl::Status HybridAllocator::FreeRun(uint32_t run, Extent extent) {
  const Tlsf::Block& block = tlsf_.block(run);
  if (block.is_free != 0 || Bytes(block.begin, block.units) != extent) [[unlikely]] {
    return NotAllocated(extent);
  }
  units_used_ -= block.units;
  tlsf_.Free(run);
  return absl::OkStatus();
}

bool HybridAllocator::BecomesHot(uint32_t units) {
  if (++requests_counted_ == kRequestsAWindow) {
    requests_counted_ = 0;
    for (Demand& demand : demands_) demand.requests /= 2;
  }
  if (++demands_[units].requests < hot_requests_) return false;
  Heat(units);
  return true;
}

void HybridAllocator::Heat(uint32_t units) {
  uint32_t number = static_cast<uint32_t>(slab_classes_.size());
  if (unused_classes_.empty()) {
    slab_classes_.emplace_back();
  } else {
    number = unused_classes_.back();
    unused_classes_.pop_back();
  }
  slab_classes_[number] = {.number = number,
                           .units = units,
                           .units_inverse = ((uint64_t{1} << kInverseShift) + units - 1) / units};
  demands_[units] = {.slab_class = static_cast<uint16_t>(number)};
}

void HybridAllocator::Cool(SlabClass& slab_class) {
  demands_[slab_class.units] = {};
  unused_classes_.push_back(static_cast<uint16_t>(slab_class.number));
}

// As large as its share and the longest free run allow. All blocks of the class are in use.
uint32_t HybridAllocator::NewSlab(SlabClass& slab_class) {
  const uint32_t units = slab_class.units;
  const uint64_t wanted =
      std::min<uint64_t>({slab_class.blocks / kSlabShare, kBlocksASlabMax, slab_units_max_ / units,
                          tlsf_.LongestFreeAtLeast() / units});
  const uint32_t blocks = std::max(static_cast<uint32_t>(wanted), uint32_t{1});
  const uint32_t run = tlsf_.AllocateExactly(blocks * units).block;
  if (run == Tlsf::kNone) return kNone;

  const uint32_t number = UnusedSlab();
  const uint32_t begin = tlsf_.block(run).begin;
  slabs_[number] = {.free_blocks = AllBlocks(blocks),
                    .begin = begin,
                    .units = blocks * units,
                    .blocks = static_cast<uint16_t>(blocks),
                    .slab_class = static_cast<uint16_t>(slab_class.number),
                    .run = run};
  tlsf_.SetOwner(run, number);
  slab_class.blocks += blocks;
  AddWithRoom(slab_class, number);
  return number;
}

uint32_t HybridAllocator::UnusedSlab() {
  const uint32_t number = unused_slab_;
  if (number == kNone) return slabs_made_++;
  unused_slab_ = slabs_[number].next_with_room;
  return number;
}

void HybridAllocator::GiveBack(uint32_t number) {
  Slab& slab = slabs_[number];
  SlabClass& slab_class = slab_classes_[slab.slab_class];
  RemoveWithRoom(slab_class, number);
  tlsf_.Free(slab.run);
  slab.next_with_room = unused_slab_;
  unused_slab_ = number;
  slab_class.blocks -= slab.blocks;
  if (slab_class.blocks == 0) Cool(slab_class);
}

void HybridAllocator::AddWithRoom(SlabClass& slab_class, uint32_t number) {
  Slab& slab = slabs_[number];
  slab.previous_with_room = slab_class.last_with_room;
  slab.next_with_room = kNone;
  if (slab_class.last_with_room == kNone) {
    slab_class.first_with_room = number;
  } else {
    slabs_[slab_class.last_with_room].next_with_room = number;
  }
  slab_class.last_with_room = number;
}

void HybridAllocator::RemoveWithRoom(SlabClass& slab_class, uint32_t number) {
  const Slab& slab = slabs_[number];
  if (slab.previous_with_room == kNone) {
    slab_class.first_with_room = slab.next_with_room;
  } else {
    slabs_[slab.previous_with_room].next_with_room = slab.next_with_room;
  }
  if (slab.next_with_room == kNone) {
    slab_class.last_with_room = slab.previous_with_room;
  } else {
    slabs_[slab.next_with_room].previous_with_room = slab.previous_with_room;
  }
}

absl::Status HybridAllocator::NoRoom(uint64_t bytes) const {
  return absl::ResourceExhaustedError(absl::StrCat(
      "no free run of ", bytes, " bytes: ", bytes_used(), " of ", space_bytes_, " used"));
}

}  // namespace cairn
