#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"

namespace cairn::offload {

// What a model keeps per token in its KV cache, in bf16, and what goes into it.
struct Model {
  const char* name;
  int64_t layers;
  // Grouped-query attention: keys and values of each head. 0 heads: latent attention, where
  // head_dim is the latent's width (rank plus rotary part), and keys and values are one.
  int64_t kv_heads;
  int64_t head_dim;
  int64_t hidden;  // Width of an embedding.
  // Embeddings that the vision encoder gives out for one visual token: 4 where three layers get
  // their own (DeepStack), else 1.
  int64_t vision_levels;

  uint64_t kv_bytes_per_token() const;
  // The dimensions of one block of KV, outermost first: [2, layers, kv_heads, tokens, head_dim],
  // or [layers, tokens, head_dim] for latent attention.
  std::vector<int64_t> BlockDims(uint32_t block_tokens) const;
};

// By name, in any case. kInvalidArgument, listing the names there are.
absl::StatusOr<Model> FindModel(std::string_view name);

// "qwen3-vl-2b, qwen3-vl-4b, ..."
std::string ModelNames();

}  // namespace cairn::offload
