#pragma once

#include <cstdint>

#include "absl/status/statusor.h"

namespace cairn::bench {

// Bytes per second of bare copies of blocks to a GPU's memory, `depth` of them given to one stream
// at a time (cudaMemcpyAsync), out of `size` bytes (256 MiB at most) of pinned memory. Without a
// GPU HostDevice's.
absl::StatusOr<double> MeasureDeviceCopies(uint64_t block_bytes, uint64_t size, uint32_t depth);

}  // namespace cairn::bench
