#include "tiers/withheld_ranges.h"

#include <algorithm>
#include <utility>

#include "src/base/check.h"

namespace cairn {

bool WithheldRanges::Add(SpaceAllocator& space, Extent range) {
  if (RangeAround(range) != nullptr) return false;
  Withheld& withheld = ranges_.emplace_back();
  withheld.range = range;
  for (const Withheld& neighbour : ranges_) {
    for (const Extent& extent : neighbour.extents) Count(withheld, extent);
  }
  std::vector<Extent> free;
  space.Divide(range);
  space.AllocateAllFree(range, &free);
  for (const Extent& extent : free) AddTo(withheld, extent);
  return true;
}

bool WithheldRanges::Keep(Extent extent) {
  Withheld* const withheld = RangeAround(extent);
  if (withheld != nullptr) AddTo(*withheld, extent);
  return withheld != nullptr;
}

void WithheldRanges::Remove(SpaceAllocator& space, Extent range) {
  const auto found = std::find_if(ranges_.begin(), ranges_.end(),
                                  [&](const Withheld& one) { return one.range == range; });
  CAIRN_CHECK(found != ranges_.end());
  const std::vector<Extent> extents = std::move(found->extents);
  bytes_ -= found->bytes;
  ranges_.erase(found);
  // What reaches into a neighbour that is withheld too stays with that one, and is counted there.
  for (const Extent& extent : extents) {
    if (Withheld* const neighbour = RangeAround(extent)) {
      neighbour->extents.push_back(extent);
    } else {
      CAIRN_CHECK(space.Free(extent).ok());
    }
  }
}

uint64_t WithheldRanges::bytes(Extent range) const {
  for (const Withheld& withheld : ranges_) {
    if (withheld.range == range) return withheld.bytes;
  }
  return 0;
}

std::vector<Extent> WithheldRanges::ranges() const {
  std::vector<Extent> ranges;
  ranges.reserve(ranges_.size());
  for (const Withheld& withheld : ranges_) ranges.push_back(withheld.range);
  return ranges;
}

Extent WithheldRanges::Around() const {
  if (ranges_.empty()) return {};
  uint64_t begin = ranges_.front().range.offset;
  uint64_t end = 0;
  for (const Withheld& withheld : ranges_) {
    begin = std::min(begin, withheld.range.offset);
    end = std::max(end, withheld.range.offset + withheld.range.bytes);
  }
  return {begin, end - begin};
}

WithheldRanges::Withheld* WithheldRanges::RangeAround(Extent extent) {
  for (Withheld& withheld : ranges_) {
    if (Intersect(withheld.range, extent).bytes > 0) return &withheld;
  }
  return nullptr;
}

void WithheldRanges::AddTo(Withheld& withheld, Extent extent) {
  withheld.extents.push_back(extent);
  for (Withheld& each : ranges_) Count(each, extent);
}

void WithheldRanges::Count(Withheld& withheld, Extent extent) {
  const uint64_t bytes = Intersect(extent, withheld.range).bytes;
  withheld.bytes += bytes;
  bytes_ += bytes;
}

}  // namespace cairn
