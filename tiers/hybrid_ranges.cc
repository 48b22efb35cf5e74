// What HybridAllocator tells and does of a range of its space.

#include <algorithm>
#include <bit>

#include "tiers/hybrid_allocator.h"

namespace cairn {

Extent HybridAllocator::Widen(Extent range) const {
  if (range.bytes == 0) return range;
  uint32_t begin = static_cast<uint32_t>(range.offset >> unit_shift_);
  uint32_t end = begin + static_cast<uint32_t>(range.bytes >> unit_shift_);
  if (const uint32_t number = SlabOf(tlsf_.FindCovering(begin)); number != kNone) {
    const Slab& slab = slabs_[number];
    begin -= (begin - slab.begin) % slab_classes_[slab.slab_class].units;
  }
  if (const uint32_t number = SlabOf(tlsf_.FindCovering(end - 1)); number != kNone) {
    const Slab& slab = slabs_[number];
    const uint32_t units = slab_classes_[slab.slab_class].units;
    end += units - 1 - (end - 1 - slab.begin) % units;
  }
  return Bytes(begin, end - begin);
}

void HybridAllocator::Divide(Extent range) {
  if (range.bytes == 0) return;
  const Extent widened = Widen(range);
  DivideAt(static_cast<uint32_t>(widened.offset >> unit_shift_));
  if (const uint64_t end = widened.offset + widened.bytes; end < space_bytes_) {
    DivideAt(static_cast<uint32_t>(end >> unit_shift_));
  }
}

void HybridAllocator::DivideAt(uint32_t unit) {
  const uint32_t front = SlabOf(tlsf_.FindCovering(unit));
  if (front == kNone || slabs_[front].begin == unit) return;
  Slab& slab = slabs_[front];
  SlabClass& slab_class = slab_classes_[slab.slab_class];
  const uint32_t units = unit - slab.begin;
  const uint32_t blocks = units / slab_class.units;
  if (slab.free_blocks != 0) RemoveWithRoom(slab_class, front);
  const uint32_t rest = UnusedSlab();
  slabs_[rest] = slab;
  slabs_[rest].run = tlsf_.Split(slab.run, units, rest);
  slabs_[rest].begin = unit;
  slabs_[rest].units -= units;
  slabs_[rest].blocks = static_cast<uint16_t>(slab.blocks - blocks);
  slabs_[rest].free_blocks >>= blocks;
  slab.units = units;
  slab.blocks = static_cast<uint16_t>(blocks);
  slab.free_blocks &= (uint64_t{1} << blocks) - 1;
  for (const uint32_t part : {front, rest}) {
    if (slabs_[part].free_blocks != 0) AddWithRoom(slab_class, part);
    // The other part is in use.
    if (std::popcount(slabs_[part].free_blocks) == slabs_[part].blocks) GiveBack(part);
  }
}

uint64_t HybridAllocator::BlocksIn(const Slab& slab, Extent range) const {
  uint64_t blocks = 0;
  for (uint32_t block = 0; block < slab.blocks; ++block) {
    if (Intersect(BlockOf(slab, block), range).bytes > 0) blocks |= uint64_t{1} << block;
  }
  return blocks;
}

Extent HybridAllocator::WindowFor(uint64_t bytes, uint64_t offset) const {
  const uint64_t units = ((bytes - 1) >> unit_shift_) + 1;
  if (units > Tlsf::kUnitsMax) return {offset, bytes};
  return {offset, uint64_t{Tlsf::RoundUp(static_cast<uint32_t>(units))} << unit_shift_};
}

void HybridAllocator::ForEachFree(Extent range, absl::FunctionRef<void(Extent)> visit) const {
  if (range.bytes == 0) return;
  const auto begins_in = [range](Extent run) {
    return run.offset >= range.offset && run.offset - range.offset < range.bytes;
  };
  const uint64_t end = (range.offset + range.bytes) >> unit_shift_;
  uint32_t index = tlsf_.FindCovering(static_cast<uint32_t>(range.offset >> unit_shift_));
  for (; index != Tlsf::kNone && tlsf_.block(index).begin < end;
       index = tlsf_.block(index).behind) {
    const Tlsf::Block& run = tlsf_.block(index);
    const Extent bytes = Bytes(run.begin, run.units);
    if (run.is_free != 0 && begins_in(bytes)) visit(bytes);
    const uint32_t number = SlabOf(index);
    if (number == kNone) continue;
    const Slab& slab = slabs_[number];
    for (uint64_t free = slab.free_blocks; free != 0; free &= free - 1) {
      const Extent block = BlockOf(slab, static_cast<uint32_t>(std::countr_zero(free)));
      if (begins_in(block)) visit(block);
    }
  }
}

void HybridAllocator::ForEachAllocated(Extent range, absl::FunctionRef<void(Extent)> visit) const {
  if (range.bytes == 0) return;
  const uint64_t end = (range.offset + range.bytes) >> unit_shift_;
  uint32_t index = tlsf_.FindCovering(static_cast<uint32_t>(range.offset >> unit_shift_));
  for (; index != Tlsf::kNone && tlsf_.block(index).begin < end;
       index = tlsf_.block(index).behind) {
    const Tlsf::Block& run = tlsf_.block(index);
    const uint32_t number = SlabOf(index);
    if (number == kNone) {
      if (run.is_free == 0) visit(Bytes(run.begin, run.units));
      continue;
    }
    const Slab& slab = slabs_[number];
    for (uint64_t used = BlocksIn(slab, range) & ~slab.free_blocks; used != 0; used &= used - 1) {
      visit(BlockOf(slab, static_cast<uint32_t>(std::countr_zero(used))));
    }
  }
}

void HybridAllocator::AllocateAllFree(Extent range, std::vector<Extent>* extents) {
  if (range.bytes == 0) return;
  const uint32_t begin = static_cast<uint32_t>(range.offset >> unit_shift_);
  const uint32_t end = begin + static_cast<uint32_t>(range.bytes >> unit_shift_);
  uint32_t index = tlsf_.FindCovering(begin);
  for (; index != Tlsf::kNone && tlsf_.block(index).begin < end;
       index = tlsf_.block(index).behind) {
    const Tlsf::Block& run = tlsf_.block(index);
    if (run.is_free != 0) {
      index = tlsf_.AllocateWithin(index, std::max(run.begin, begin),
                                   std::min(run.begin + run.units, end));
      const Tlsf::Block& taken = tlsf_.block(index);
      units_used_ += taken.units;
      extents->push_back(Bytes(taken.begin, taken.units));
    } else if (const uint32_t number = SlabOf(index); number != kNone) {
      Slab& slab = slabs_[number];
      SlabClass& slab_class = slab_classes_[slab.slab_class];
      uint64_t taken = BlocksIn(slab, range) & slab.free_blocks;
      if (taken == 0) continue;
      slab.free_blocks &= ~taken;
      if (slab.free_blocks == 0) RemoveWithRoom(slab_class, number);
      for (; taken != 0; taken &= taken - 1) {
        units_used_ += slab_class.units;
        extents->push_back(BlockOf(slab, static_cast<uint32_t>(std::countr_zero(taken))));
      }
    }
  }
}

}  // namespace cairn
