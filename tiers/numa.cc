#include "tiers/numa.h"

#include <numa.h>
#include <numaif.h>

#include <algorithm>
#include <cerrno>
#include <memory>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "src/base/strings.h"

namespace cairn {
namespace {

// Further than any that the system tells.
constexpr uint32_t kDistanceUnknown = UINT32_MAX;

uint64_t RoomOn(const NumaNodeMemory& node) {
  return node.bytes_free / 8 * 7 / kHugePageBytes * kHugePageBytes;
}

const NumaNodeMemory* Find(const NumaTopology& topology, uint32_t number) {
  for (const NumaNodeMemory& node : topology.nodes) {
    if (node.node == number) return &node;
  }
  return nullptr;
}

absl::Status NoSuchNode(const NumaTopology& topology, uint32_t wanted) {
  std::vector<uint32_t> usable;
  for (const NumaNodeMemory& node : topology.nodes) {
    if (node.bytes_free > 0) usable.push_back(node.node);
  }
  return absl::InvalidArgumentError(
      absl::StrCat("StoreOptions::l2_numa_node is ", wanted,
                   ": must be -1, or a node with memory that this process may use: ",
                   usable.empty() ? "0" : absl::StrJoin(usable, ", ")));
}

std::vector<uint32_t> NumbersOf(absl::Span<const NumaNodeMemory* const> nodes) {
  std::vector<uint32_t> numbers;
  numbers.reserve(nodes.size());
  for (const NumaNodeMemory* node : nodes) numbers.push_back(node->node);
  std::sort(numbers.begin(), numbers.end());
  return numbers;
}

}  // namespace

absl::StatusOr<std::vector<NumaRange>> PlanNumaPlacement(const NumaTopology& topology,
                                                         uint64_t bytes,
                                                         std::optional<uint32_t> wanted) {
  if (wanted.has_value()) {
    // A system that does not tell its nodes has one.
    const NumaNodeMemory* const node = Find(topology, *wanted);
    const bool exists = topology.nodes.empty() ? *wanted == 0 : node && node->bytes_free > 0;
    if (!exists) return NoSuchNode(topology, *wanted);
  }
  std::vector<const NumaNodeMemory*> nodes;
  for (const NumaNodeMemory& node : topology.nodes) {
    if (node.bytes_free > 0 && (node.has_cpus || node.node == wanted)) nodes.push_back(&node);
  }
  if (nodes.size() < 2) return std::vector<NumaRange>();
  std::vector<NumaRange> ranges;
  uint64_t placed_bytes = 0;
  const std::optional<uint32_t> near = wanted.has_value() ? wanted : topology.device_node;
  const NumaNodeMemory* const nearest = near.has_value() ? Find(topology, *near) : nullptr;
  if (nearest != nullptr) {
    const auto distance = [nearest](const NumaNodeMemory* node) {
      const auto found = nearest->distances.find(node->node);
      if (node == nearest) return uint32_t{0};
      return found == nearest->distances.end() ? kDistanceUnknown : found->second;
    };
    std::stable_sort(nodes.begin(), nodes.end(),
                     [&](const auto* a, const auto* b) { return distance(a) < distance(b); });
    for (const NumaNodeMemory* const node : nodes) {
      const uint64_t share = std::min(bytes - placed_bytes, RoomOn(*node));
      if (share > 0) ranges.push_back({placed_bytes, share, {node->node}});
      placed_bytes += share;
    }
  }
  if (placed_bytes < bytes) {
    ranges.push_back({placed_bytes, bytes - placed_bytes, NumbersOf(nodes)});
  }
  return ranges;
}

std::string DescribeNumaPlacement(absl::Span<const NumaRange> ranges) {
  std::vector<std::string> parts;
  for (const NumaRange& range : ranges) {
    parts.push_back(absl::StrCat(FormatBytes(range.bytes),
                                 range.nodes.size() == 1 ? " on node " : " interleaved over nodes ",
                                 absl::StrJoin(range.nodes, ", ")));
  }
  return absl::StrJoin(parts, "; ");
}

absl::Status PlaceMemory(absl::Span<std::byte> memory, absl::Span<const uint32_t> nodes) {
  if (numa_available() < 0) {
    return absl::UnavailableError("the system has no support for NUMA nodes");
  }
  const std::unique_ptr<bitmask, decltype(&numa_free_nodemask)> mask(numa_allocate_nodemask(),
                                                                     &numa_free_nodemask);
  for (const uint32_t node : nodes) numa_bitmask_setbit(mask.get(), node);
  // Not by numa_tonode_memory, which binds where the host has asked libnuma to. The kernel takes
  // one bit less than it is told.
  const int mode = nodes.size() == 1 ? MPOL_PREFERRED : MPOL_INTERLEAVE;
  if (mbind(memory.data(), memory.size(), mode, mask->maskp, mask->size + 1, 0) != 0) {
    return absl::UnavailableError(absl::ErrnoToStatus(errno, "mbind").message());
  }
  return absl::OkStatus();
}

}  // namespace cairn
