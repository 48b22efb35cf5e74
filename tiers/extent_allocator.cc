#include "tiers/extent_allocator.h"

#include <algorithm>
#include <iterator>
#include <limits>
#include <vector>

#include "absl/strings/str_cat.h"

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
    : alignment_(alignment), bytes_max_(space_bytes) {}

absl::StatusOr<std::unique_ptr<ExtentAllocator>> ExtentAllocator::Create(
    uint64_t space_bytes, uint64_t alignment, absl::Span<const Extent> reserved,
    absl::Span<const Extent> in_use) {
  if (alignment == 0 || (alignment & (alignment - 1)) != 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("alignment ", alignment, " is not a power of two"));
  }
  if ((space_bytes & (alignment - 1)) != 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("space of ", space_bytes, " bytes is not a multiple of ", alignment));
  }
  std::unique_ptr<ExtentAllocator> allocator(new ExtentAllocator(space_bytes, alignment));
  allocator->used_by_offset_.reserve(in_use.size());

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
    } else {
      allocator->bytes_used_ += extent.bytes;
      allocator->used_by_offset_.emplace(extent.offset, extent.bytes);
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
  used_by_offset_.emplace(run_offset, rounded_bytes);
  bytes_used_ += rounded_bytes;
  return Extent{run_offset, rounded_bytes};
}

absl::Status ExtentAllocator::Free(Extent extent) {
  const auto used = used_by_offset_.find(extent.offset);
  if (used == used_by_offset_.end() || used->second != extent.bytes) {
    return absl::InvalidArgumentError(
        absl::StrCat("extent ", Describe(extent), " is not allocated"));
  }
  used_by_offset_.erase(used);
  bytes_used_ -= extent.bytes;
  if (Withdrawn* const withdrawn = FindWithdrawn(extent.offset)) {
    withdrawn->bytes_used -= extent.bytes;
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
  const auto used = used_by_offset_.find(extent.offset);
  if (used == used_by_offset_.end() || used->second != extent.bytes) {
    return absl::InvalidArgumentError(
        absl::StrCat("extent ", Describe(extent), " is not allocated"));
  }
  if (bytes == 0 || bytes >= extent.bytes || (bytes & (alignment_ - 1)) != 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("extent ", Describe(extent), " cannot be split at ", bytes));
  }
  used->second = bytes;
  used_by_offset_.emplace(extent.offset + bytes, extent.bytes - bytes);
  return absl::OkStatus();
}

void ExtentAllocator::Withdraw(Extent range) {
  const uint64_t end = range.offset + range.bytes;
  Withdrawn& withdrawn = withdrawn_[range.offset];
  withdrawn.end = end;
  for (const auto& [offset, bytes] : used_by_offset_) {
    if (offset >= range.offset && offset < end) withdrawn.bytes_used += bytes;
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
    if (offset < first) rest.push_back({offset, first - offset});
    if (last < offset + bytes) rest.push_back({last, offset + bytes - last});
    free_by_bytes_.erase({bytes, offset});
    run = free_by_offset_.erase(run);
  }
  for (const Extent& extent : rest) AddFree(extent);
}

ExtentAllocator::Withdrawn* ExtentAllocator::FindWithdrawn(uint64_t offset) {
  const auto behind = withdrawn_.upper_bound(offset);
  if (behind == withdrawn_.begin()) return nullptr;
  Withdrawn& withdrawn = std::prev(behind)->second;
  return offset < withdrawn.end ? &withdrawn : nullptr;
}

uint64_t ExtentAllocator::withdrawn_bytes_used(uint64_t offset) const {
  const auto found = withdrawn_.find(offset);
  return found == withdrawn_.end() ? 0 : found->second.bytes_used;
}

uint64_t ExtentAllocator::largest_free_bytes() const {
  return free_by_bytes_.empty() ? 0 : free_by_bytes_.rbegin()->first;
}

void ExtentAllocator::AddFree(Extent extent) {
  free_by_offset_.emplace(extent.offset, extent.bytes);
  free_by_bytes_.emplace(extent.bytes, extent.offset);
}

}  // namespace cairn
