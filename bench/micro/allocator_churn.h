#pragma once

#include <cstddef>
#include <cstdint>

#include "bench/micro/workloads.h"
#include "tiers/allocator.h"

namespace cairn::micro {

struct ChurnOptions {
  uint64_t arena_bytes = uint64_t{64} << 30;
  int rounds = 180;  // Of filling until the first failure and evicting 5 % at random.
  size_t pairs_a_window = 200'000;
  int windows = 7;  // Of which the median counts.
};

struct ChurnFigures {
  // Bytes asked for at the first failure, as a part of the arena: the mean of the last third of the
  // rounds.
  double utilisation = 0;
  // Of a free of a random block and an allocation of a new size, at 75 % full.
  double pair_ns = 0;
};

// `allocator` is empty and has arena_bytes. Ends the process when a free is refused.
ChurnFigures Churn(Allocator& allocator, const Workload& workload, const ChurnOptions& options);

}  // namespace cairn::micro
