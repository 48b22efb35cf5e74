#pragma once

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "cairn/tensor.h"
#include "tools/offload/options.h"
#include "tools/offload/trace.h"

namespace cairn::offload {

// What one block of KV is in the store.
struct BlockPlan {
  uint32_t tokens = 0;
  uint64_t bytes = 0;
  TensorMeta meta;          // bf16 in the model's shape where the block is whole, else flat bytes.
  std::string fingerprint;  // All that decides a block's bytes besides its id.
};

// kInvalidArgument, naming the option, when a block does not fit --l2 with room to work.
absl::StatusOr<BlockPlan> PlanBlocks(const Options& options, TraceFormat format);

}  // namespace cairn::offload
