#pragma once

#include <cstdint>

#include "absl/status/statusor.h"

namespace cairn::bench {

// Bytes per second that `threads` threads copy together in blocks, out of `size` bytes (256 MiB at
// most) and each into memory of its own, all with such pages as a store and its callers have.
absl::StatusOr<double> MeasureMemcpy(uint64_t block_bytes, uint64_t size, uint32_t threads);

}  // namespace cairn::bench
