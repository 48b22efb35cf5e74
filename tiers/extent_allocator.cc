#include "tiers/extent_allocator.h"

#include <algorithm>
#include <bit>
#include <iterator>
#include <limits>
#include <vector>

#include "absl/strings/str_cat.h"
#include "src/base/status_macros.h"

namespace cairn {
namespace {

std::string Describe(Extent extent) {
  return absl::StrCat("[", extent.offset, ", +", extent.bytes, ")");
}

// Whether `extent` may lie in the space behind everything that ends at `end`.
absl::Status CheckPlaced(Extent extent, uint64_t end, uint64_t space_bytes, uint64_t alignment) {
  if (extent.bytes == 0) return absl::InvalidArgumentError("has no bytes");
  if (((extent.offset | extent.bytes) & (alignment - 1)) != 0) {
    return absl::InvalidArgumentError(absl::StrCat("is not aligned to ", alignment));
  }
  if (extent.offset > space_bytes || extent.bytes > space_bytes - extent.offset) {
    return absl::InvalidArgumentError(absl::StrCat("is outside of the ", space_bytes, " bytes"));
  }
  if (extent.offset < end) {
    return absl::InvalidArgumentError(
        absl::StrCat("overlaps what ends at ", end, ", or is out of order"));
  }
  return absl::OkStatus();
}

}  // namespace

ExtentAllocator::ExtentAllocator(uint64_t space_bytes, uint64_t alignment)
    : space_bytes_(space_bytes),
      alignment_(alignment),
      bytes_max_(space_bytes),
      begins_((space_bytes / alignment + 63) / 64) {}

absl::StatusOr<std::unique_ptr<ExtentAllocator>> ExtentAllocator::Create(
    uint64_t space_bytes, uint64_t alignment, absl::Span<const Extent> reserved,
    absl::Span<const Extent> in_use) {
  CAIRN_RETURN_IF_ERROR(CheckSpace(space_bytes, alignment));
  std::unique_ptr<ExtentAllocator> allocator(new ExtentAllocator(space_bytes, alignment));
  allocator->reserved_.reserve(reserved.size());

  // One pass over both lists in order of offset. The free runs between them come out sorted, so
  // both trees are built from sorted input, which is linear.
  std::vector<std::pair<uint64_t, uint64_t>> free_runs;
  uint64_t end = 0;
  while (!reserved.empty() || !in_use.empty()) {
    const bool is_reserved =
        in_use.empty() || (!reserved.empty() && reserved.front().offset < in_use.front().offset);
    absl::Span<const Extent>& list = is_reserved ? reserved : in_use;
    const Extent extent = list.front();
    list.remove_prefix(1);
    if (absl::Status status = CheckPlaced(extent, end, space_bytes, alignment); !status.ok()) {
      return absl::InvalidArgumentError(absl::StrCat(is_reserved ? "reserved" : "used", " extent ",
                                                     Describe(extent), " ", status.message()));
    }
    if (extent.offset > end) free_runs.emplace_back(end, extent.offset - end);
    end = extent.offset + extent.bytes;
    if (is_reserved) {
      allocator->bytes_max_ -= extent.bytes;
      allocator->reserved_.push_back(extent);
    } else {
      allocator->bytes_used_ += extent.bytes;
      allocator->FlipBegin(extent.offset);
    }
  }
  if (space_bytes > end) free_runs.emplace_back(end, space_bytes - end);

  allocator->free_by_offset_ = std::map<uint64_t, uint64_t>(free_runs.begin(), free_runs.end());
  for (auto& run : free_runs) std::swap(run.first, run.second);
  std::sort(free_runs.begin(), free_runs.end());
  allocator->free_by_bytes_ =
      std::set<std::pair<uint64_t, uint64_t>>(free_runs.begin(), free_runs.end());
  return allocator;
}

absl::StatusOr<Extent> ExtentAllocator::Allocate(uint64_t bytes) {
  if (bytes == 0) return absl::InvalidArgumentError("allocation of 0 bytes");
  if (bytes > std::numeric_limits<uint64_t>::max() - (alignment_ - 1)) {
    return absl::ResourceExhaustedError(absl::StrCat("no room for ", bytes, " bytes"));
  }
  const uint64_t rounded_bytes = (bytes + alignment_ - 1) & ~(alignment_ - 1);
  const auto best = free_by_bytes_.lower_bound({rounded_bytes, 0});
  if (best == free_by_bytes_.end()) {
    return absl::ResourceExhaustedError(
        absl::StrCat("no free run of ", rounded_bytes, " bytes: ", bytes_used_, " of ", bytes_max_,
                     " used, ", largest_free_bytes(), " the longest free"));
  }
  const auto [run_bytes, run_offset] = *best;
  free_by_bytes_.erase(best);
  free_by_offset_.erase(run_offset);
  if (run_bytes > rounded_bytes) {
    AddFree({run_offset + rounded_bytes, run_bytes - rounded_bytes});
  }
  FlipBegin(run_offset);
  bytes_used_ += rounded_bytes;
  return Extent{run_offset, rounded_bytes};
}

absl::Status ExtentAllocator::Free(Extent extent) {
  if (!Allocated(extent)) return NotAllocated(extent);
  FlipBegin(extent.offset);
  bytes_used_ -= extent.bytes;
  if (const std::optional<uint64_t> range = WithdrawnRangeOf(extent.offset)) {
    withdrawn_[*range].bytes_used -= extent.bytes;
    bytes_max_ -= extent.bytes;
    return absl::OkStatus();
  }

  // Joined with the free neighbours, so that no two free runs ever touch.
  auto next = free_by_offset_.lower_bound(extent.offset);
  if (next != free_by_offset_.begin()) {
    const auto before = std::prev(next);
    if (before->first + before->second == extent.offset) {
      extent = {before->first, before->second + extent.bytes};
      free_by_bytes_.erase({before->second, before->first});
      free_by_offset_.erase(before);
    }
  }
  if (next != free_by_offset_.end() && extent.offset + extent.bytes == next->first) {
    extent.bytes += next->second;
    free_by_bytes_.erase({next->second, next->first});
    free_by_offset_.erase(next);
  }
  AddFree(extent);
  return absl::OkStatus();
}

absl::Status ExtentAllocator::Split(Extent extent, uint64_t bytes) {
  if (!Allocated(extent)) return NotAllocated(extent);
  if (bytes == 0 || bytes >= extent.bytes || (bytes & (alignment_ - 1)) != 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("extent ", Describe(extent), " cannot be split at ", bytes));
  }
  FlipBegin(extent.offset + bytes);
  return absl::OkStatus();
}

void ExtentAllocator::Withdraw(Extent range) {
  const uint64_t end = std::min(range.offset + range.bytes, space_bytes_);
  uint64_t bytes_used = end - range.offset;
  for (const Extent& extent : reserved_) {
    if (extent.offset >= range.offset && extent.offset < end) bytes_used -= extent.bytes;
  }
  std::vector<Extent> rest;
  auto run = free_by_offset_.upper_bound(range.offset);
  if (run != free_by_offset_.begin()) --run;
  while (run != free_by_offset_.end() && run->first < end) {
    const auto [offset, bytes] = *run;
    const uint64_t first = std::max(offset, range.offset);
    const uint64_t last = std::min(offset + bytes, end);
    if (first >= last) {
      ++run;
      continue;
    }
    bytes_max_ -= last - first;
    bytes_used -= last - first;
    if (offset < first) rest.push_back({offset, first - offset});
    if (last < offset + bytes) rest.push_back({last, offset + bytes - last});
    free_by_bytes_.erase({bytes, offset});
    run = free_by_offset_.erase(run);
  }
  for (const Extent& extent : rest) AddFree(extent);
  withdrawn_[range.offset] = {.end = end, .bytes_used = bytes_used};
}

std::optional<uint64_t> ExtentAllocator::WithdrawnRangeOf(uint64_t offset) const {
  const auto behind = withdrawn_.upper_bound(offset);
  if (behind == withdrawn_.begin()) return std::nullopt;
  const auto& [begin, range] = *std::prev(behind);
  return offset < range.end ? std::optional(begin) : std::nullopt;
}

uint64_t ExtentAllocator::withdrawn_bytes_used(uint64_t offset) const {
  const auto found = withdrawn_.find(offset);
  return found == withdrawn_.end() ? 0 : found->second.bytes_used;
}

uint64_t ExtentAllocator::largest_free_bytes() const {
  return free_by_bytes_.empty() ? 0 : free_by_bytes_.rbegin()->first;
}

bool ExtentAllocator::Allocated(Extent extent) const {
  if (extent.bytes == 0 || ((extent.offset | extent.bytes) & (alignment_ - 1)) != 0) return false;
  if (extent.offset > space_bytes_ || extent.bytes > space_bytes_ - extent.offset) return false;
  // Nothing but its own beginning in it, and something else right behind it. (What is free in a
  // range that was withdrawn is listed nowhere.)
  const uint64_t end = extent.offset + extent.bytes;
  if (!Begins(extent.offset) || AnyBegins(extent.offset + alignment_, end)) return false;
  if (WithdrawnRangeOf(extent.offset).has_value()) return true;
  const uint64_t next = FirstUnallocated(extent.offset);
  return end == next || (end < next && Begins(end));
}

uint64_t ExtentAllocator::FirstUnallocated(uint64_t offset) const {
  const auto free = free_by_offset_.lower_bound(offset);
  const uint64_t next_free = free == free_by_offset_.end() ? space_bytes_ : free->first;
  const auto reserved =
      std::lower_bound(reserved_.begin(), reserved_.end(), offset,
                       [](const Extent& other, uint64_t at) { return other.offset < at; });
  return std::min(next_free, reserved == reserved_.end() ? space_bytes_ : reserved->offset);
}

uint64_t ExtentAllocator::FirstBegin(uint64_t from, uint64_t to) const {
  const uint64_t end = to / alignment_;
  for (uint64_t number = from / alignment_; number < end; number = (number / 64 + 1) * 64) {
    const uint64_t word = begins_[number / 64] >> (number % 64);
    if (word == 0) continue;
    return std::min(number + static_cast<uint64_t>(std::countr_zero(word)), end) * alignment_;
  }
  return to;
}

bool ExtentAllocator::AnyBegins(uint64_t from, uint64_t to) const {
  return from < to && FirstBegin(from, to) < to;
}

std::optional<uint64_t> ExtentAllocator::LastBegin(uint64_t offset) const {
  const uint64_t number = offset / alignment_;
  uint64_t word = begins_[number / 64] << (63 - number % 64);
  if (word != 0) return (number - static_cast<uint64_t>(std::countl_zero(word))) * alignment_;
  for (uint64_t i = number / 64; i > 0; --i) {
    word = begins_[i - 1];
    if (word != 0) return (i * 64 - 1 - static_cast<uint64_t>(std::countl_zero(word))) * alignment_;
  }
  return std::nullopt;
}

void ExtentAllocator::ForEachFree(Extent range, absl::FunctionRef<void(Extent)> visit) const {
  for (auto run = free_by_offset_.lower_bound(range.offset);
       run != free_by_offset_.end() && run->first < range.offset + range.bytes; ++run) {
    visit({run->first, run->second});
  }
}

void ExtentAllocator::ForEachAllocated(Extent range, absl::FunctionRef<void(Extent)> visit) const {
  if (range.bytes == 0) return;
  const uint64_t end = range.offset + range.bytes;
  uint64_t offset = LastBegin(range.offset).value_or(FirstBegin(range.offset, end));
  while (offset < end) {
    const uint64_t next = FirstBegin(offset + alignment_, space_bytes_);
    const Extent extent = {offset, std::min(next, FirstUnallocated(offset)) - offset};
    if (Intersect(extent, range).bytes > 0 && !WithdrawnRangeOf(offset).has_value()) visit(extent);
    offset = next;
  }
}

void ExtentAllocator::AllocateAllFree(Extent range, std::vector<Extent>* extents) {
  const uint64_t end = range.offset + range.bytes;
  auto run = free_by_offset_.upper_bound(range.offset);
  if (run != free_by_offset_.begin()) --run;
  while (run != free_by_offset_.end() && run->first < end) {
    const Extent free = {run->first, run->second};
    ++run;
    const Extent taken = Intersect(free, range);
    if (taken.bytes == 0) continue;
    free_by_offset_.erase(free.offset);
    free_by_bytes_.erase({free.bytes, free.offset});
    const uint64_t taken_end = taken.offset + taken.bytes;
    const uint64_t free_end = free.offset + free.bytes;
    if (free.offset < taken.offset) AddFree({free.offset, taken.offset - free.offset});
    if (taken_end < free_end) AddFree({taken_end, free_end - taken_end});
    FlipBegin(taken.offset);
    bytes_used_ += taken.bytes;
    extents->push_back(taken);
  }
}

void ExtentAllocator::AddFree(Extent extent) {
  free_by_offset_.emplace(extent.offset, extent.bytes);
  free_by_bytes_.emplace(extent.bytes, extent.offset);
}

}  // namespace cairn
