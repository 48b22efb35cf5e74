#pragma once

#include <cstdint>

#include "tiers/allocator.h"

namespace cairn::micro {

struct ThreadsOptions {
  int windows = 7;  // Of which the median counts.
  double window_seconds = 0.1;
};

// Millions of allocations of a KV block and its free a second, by so many threads together.
// `allocator` is thread-safe.
double PairsAMicrosecond(Allocator& allocator, int threads, const ThreadsOptions& options);

}  // namespace cairn::micro
