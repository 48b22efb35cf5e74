#include "tools/offload/model.h"

#include <array>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "src/base/strings.h"

namespace cairn::offload {
namespace {

constexpr uint64_t kBytesPerElement = 2;

constexpr std::array<Model, 9> kModels = {{
    {"qwen3-vl-2b", 28, 8, 128, 2048, 4},
    {"qwen3-vl-4b", 36, 8, 128, 2560, 4},
    {"qwen3-vl-8b", 36, 8, 128, 4096, 4},
    {"qwen3-vl-32b", 64, 8, 128, 5120, 4},
    {"qwen3-vl-30b-a3b", 48, 4, 128, 2048, 4},
    {"qwen3-vl-235b-a22b", 94, 4, 128, 4096, 4},
    {"llama-3-8b", 32, 8, 128, 4096, 1},
    {"llama-3-70b", 80, 8, 128, 8192, 1},
    {"deepseek-v3", 61, 0, 512 + 64, 7168, 1},
}};

}  // namespace

uint64_t Model::kv_bytes_per_token() const {
  const int64_t elements = kv_heads == 0 ? layers * head_dim : 2 * layers * kv_heads * head_dim;
  return static_cast<uint64_t>(elements) * kBytesPerElement;
}

std::vector<int64_t> Model::BlockDims(uint32_t block_tokens) const {
  const int64_t tokens = block_tokens;
  if (kv_heads == 0) return {layers, tokens, head_dim};
  return {2, layers, kv_heads, tokens, head_dim};
}

absl::StatusOr<Model> FindModel(std::string_view name) {
  for (const Model& model : kModels) {
    if (absl::EqualsIgnoreCase(ToAbsl(name), model.name)) return model;
  }
  return absl::InvalidArgumentError(
      absl::StrCat("unknown model \"", ToAbsl(name), "\"; known: ", ModelNames()));
}

std::string ModelNames() {
  std::string names;
  for (const Model& model : kModels) {
    absl::StrAppend(&names, names.empty() ? "" : ", ", model.name);
  }
  return names;
}

}  // namespace cairn::offload
