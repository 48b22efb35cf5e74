#include "io/fixed_memory.h"

#include <algorithm>
#include <functional>

#include "absl/strings/str_cat.h"

namespace cairn {
namespace {

// std::less orders pointers into different objects too; operator< need not.
constexpr std::less<const std::byte*> kBefore;

bool BeginsAfter(const std::byte* address, const FixedMemory::Part& part) {
  return kBefore(address, part.begin);
}

}  // namespace

FixedMemory::FixedMemory(uint32_t slots_max) : slots_max_(slots_max) {}

absl::StatusOr<std::vector<FixedMemory::Part>> FixedMemory::Add(absl::Span<std::byte> region) {
  if (region.empty()) return absl::InvalidArgumentError("RegisterMemory: an empty region");
  std::byte* const end = region.data() + region.size();
  const auto next = std::upper_bound(parts_.begin(), parts_.end(), region.data(), BeginsAfter);
  const bool overlaps_next = next != parts_.end() && kBefore(next->begin, end);
  const bool overlaps_previous =
      next != parts_.begin() && kBefore(region.data(), (next - 1)->begin + (next - 1)->size);
  if (overlaps_next || overlaps_previous) {
    return absl::InvalidArgumentError("RegisterMemory: overlaps a registered region");
  }
  const size_t part_count = (region.size() - 1) / kPartBytesMax + 1;
  if (part_count > slots_max_ - slots_used_ + free_slots_.size()) {
    return absl::ResourceExhaustedError(absl::StrCat("RegisterMemory: ", slots_max_,
                                                     " regions of at most 1 GiB, the most this "
                                                     "engine takes (memory_regions_max)"));
  }
  std::vector<Part> parts;
  for (std::byte* begin = region.data(); begin != end; begin += parts.back().size) {
    uint32_t slot = slots_used_;
    if (free_slots_.empty()) {
      ++slots_used_;
    } else {
      slot = free_slots_.back();
      free_slots_.pop_back();
    }
    parts.push_back({.begin = begin,
                     .size = std::min(kPartBytesMax, static_cast<size_t>(end - begin)),
                     .slot = slot,
                     .region_begin = region.data()});
  }
  parts_.insert(next, parts.begin(), parts.end());
  return parts;
}

std::vector<FixedMemory::Part> FixedMemory::Remove(absl::Span<std::byte> region) {
  const auto in_region = [&](const Part& part) { return part.region_begin == region.data(); };
  const auto first = std::find_if(parts_.begin(), parts_.end(), in_region);
  const auto last = std::find_if_not(first, parts_.end(), in_region);
  if (first == last) return {};
  if ((last - 1)->begin + (last - 1)->size != region.data() + region.size()) return {};
  std::vector<Part> parts(first, last);
  parts_.erase(first, last);
  for (const Part& part : parts) free_slots_.push_back(part.slot);
  return parts;
}

int FixedMemory::Find(const iovec& piece) const {
  const std::byte* const begin = static_cast<const std::byte*>(piece.iov_base);
  const auto next = std::upper_bound(parts_.begin(), parts_.end(), begin, BeginsAfter);
  if (next == parts_.begin()) return -1;
  const Part& part = *(next - 1);
  const size_t skipped = static_cast<size_t>(begin - part.begin);
  const bool inside = skipped < part.size && piece.iov_len <= part.size - skipped;
  return inside ? static_cast<int>(part.slot) : -1;
}

}  // namespace cairn
