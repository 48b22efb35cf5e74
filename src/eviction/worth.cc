#include "src/eviction/worth.h"

#include <algorithm>
#include <cmath>

#include "io/index.h"

namespace cairn {

static_assert(kWorths == kRecomputeLevelMax);

uint8_t RecomputeLevel(absl::Duration recompute_cost, uint64_t bytes) {
  if (recompute_cost <= absl::ZeroDuration() || bytes == 0) return 0;
  const double ns = absl::ToDoubleNanoseconds(recompute_cost) / static_cast<double>(bytes);
  const double level = std::round(std::log2(ns)) + 1 + kWorthUnknown;
  return static_cast<uint8_t>(std::clamp(level, 1., double{kRecomputeLevelMax}));
}

}  // namespace cairn
