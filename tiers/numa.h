#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"

namespace cairn {

inline constexpr uint64_t kHugePageBytes = uint64_t{2} << 20;

// The nodes of a machine, as far as placing memory asks.
struct NumaNodeMemory {
  uint32_t node = 0;
  bool has_cpus = false;  // Without: memory of a GPU, or behind a link. Nothing goes there unasked.
  uint64_t bytes_free = 0;  // With what the kernel could drop. 0 where the process may not use it.
  std::map<uint32_t, uint32_t> distances;  // To each node, as the system tells them: 10 is here.
};
struct NumaTopology {
  std::vector<NumaNodeMemory> nodes;    // By their numbers. Empty: not known.
  std::optional<uint32_t> device_node;  // That of the GPU.
};

// A run of an arena that one node is preferred for, or that several take in turn, page by page.
// Preferred, not bound: what a node has no room for is on another.
struct NumaRange {
  uint64_t offset = 0;
  uint64_t bytes = 0;
  std::vector<uint32_t> nodes;  // By their numbers.
};

// Where an arena goes. With a node that is preferred (`wanted`, else that of the device) it is
// filled first, up to 7/8 of what is free there, then the others, nearest first; what nobody has
// room for, and all where no node is preferred, is interleaved over all of them. Ranges are whole
// huge pages but for the end of the last, in order, without gaps. Empty: the system decides, since
// there is no more than one node to choose from. kInvalidArgument, naming those there are, when
// `wanted` is none.
absl::StatusOr<std::vector<NumaRange>> PlanNumaPlacement(const NumaTopology& topology,
                                                         uint64_t bytes,
                                                         std::optional<uint32_t> wanted);

// "64 GiB on node 1, 16 GiB on node 0", "16 GiB interleaved over nodes 0, 1"; empty for no ranges.
std::string DescribeNumaPlacement(absl::Span<const NumaRange> ranges);

// Of pages that nobody has touched yet. kUnavailable: the system does not know nodes, or refuses.
absl::Status PlaceMemory(absl::Span<std::byte> memory, absl::Span<const uint32_t> nodes);

}  // namespace cairn
