#pragma once

#include <array>
#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "cairn/tensor.h"
#include "tools/offload/class_mix.h"
#include "tools/offload/options.h"
#include "tools/offload/trace.h"

namespace cairn::offload {

// Visual tokens of an image: 512, 768 and 1024 pixels square, one token for each 32 x 32 of them.
inline constexpr std::array<uint64_t, 3> kImageTokens = {256, 576, 1024};

// What one block is in the store: of KV unless the mix of classes says otherwise.
struct BlockPlan {
  uint32_t tokens = 0;
  uint64_t bytes = 0;       // Of a block of KV.
  TensorMeta meta;          // bf16 in the model's shape where the block is whole, else flat bytes.
  std::string fingerprint;  // All that decides a block's bytes besides its id.
  ClassMix mix;
  std::array<uint64_t, 3> image_bytes = {};  // What a vision tensor may have, the largest last.
  uint64_t text_bytes = 0;

  struct Tensor {
    TensorClass tensor_class = TensorClass::kKv;
    uint64_t bytes = 0;
    TensorMeta meta;
  };
  Tensor Of(uint64_t block_id) const;
  // Of the largest tensor there is.
  uint64_t bytes_max() const;
};

// kInvalidArgument, naming the option, when a tensor does not fit --l2, or --l1, with room to work.
absl::StatusOr<BlockPlan> PlanBlocks(const Options& options, TraceFormat format);

}  // namespace cairn::offload
