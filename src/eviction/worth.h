#pragma once

#include <cstdint>

#include "absl/time/time.h"

namespace cairn {

// What the bytes of a tensor are worth keeping: how long it takes to compute them again
// (PutOptions::recompute_cost), a byte, in powers of two. Kept on disk as it is told,
// RecomputeLevel: 0 where nobody said, else 2^(level - 5) ns a byte, from 1/16 ns to 1 us.
uint8_t RecomputeLevel(absl::Duration recompute_cost, uint64_t bytes);

// And as policies count with it: the power itself, from 0 on. What nobody spoke of is worth 1 ns a
// byte, about what a KV block of a model of 8 billion parameters is: 128 KiB a token, 8,000 tokens
// a second.
inline constexpr uint8_t kWorthUnknown = 4;
inline constexpr uint8_t kWorths = 15;
inline uint8_t WorthOf(uint8_t recompute_level) {
  return recompute_level == 0 ? kWorthUnknown : static_cast<uint8_t>(recompute_level - 1);
}

}  // namespace cairn
