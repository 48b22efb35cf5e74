#pragma once

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "bench/peers/figures.h"
#include "bench/peers/peer_store.h"

namespace cairn::peers {

// Tensors of one call. What a latency is the latency of.
inline constexpr uint64_t kBatchTensors = 16;

struct Plan {
  std::string directory;      // Made, and gone afterwards with all that is in it.
  uint64_t tensor_bytes = 0;  // A multiple of 4096.
  uint64_t bytes = 0;         // A multiple of tensor_bytes.
  uint64_t round = 0;         // Decides the order.
};

// Puts every tensor once, flushes, closes, drops the caches, opens again, gets every tensor once in
// another order and compares every byte.
//
// kResourceExhausted, with both figures, where the disk has no room for any of the stores;
// kDataLoss naming the key that came back with other bytes.
absl::StatusOr<Figures> Measure(const PeerKind& kind, const Plan& plan);

}  // namespace cairn::peers
