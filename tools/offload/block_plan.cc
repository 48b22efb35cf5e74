#include "tools/offload/block_plan.h"

#include <algorithm>
#include <vector>

#include "absl/strings/str_cat.h"
#include "src/base/status_macros.h"
#include "src/base/strings.h"
#include "tools/offload/block_content.h"

namespace cairn::offload {
namespace {

constexpr uint64_t kEmbeddingElementBytes = 2;

uint64_t ScaledBytes(uint64_t bytes, uint64_t scale) {
  constexpr uint64_t kUnit = 4096;
  if (scale == 1) return bytes;
  const uint64_t divided = (bytes + scale - 1) / scale;
  return (divided + kUnit - 1) / kUnit * kUnit;
}

TensorMeta MetaOf(const Options& options, const BlockPlan& plan) {
  if (!options.model.has_value() || options.scale != 1) return TensorMeta::Bytes(plan.bytes);
  const std::vector<int64_t> dims = options.model->BlockDims(plan.tokens);
  TensorMeta meta;
  meta.dtype = DType::kBf16;
  meta.rank = static_cast<uint8_t>(dims.size());
  std::copy(dims.begin(), dims.end(), meta.dims.begin());
  return meta;
}

std::string FingerprintOf(const Options& options, const BlockPlan& plan) {
  const std::string source = options.model.has_value()
                                 ? absl::StrCat("model=", options.model->name)
                                 : absl::StrCat("kv_bytes_per_token=", options.kv_bytes_per_token);
  return absl::StrCat(
      "kv-offload ", source, " block_tokens=", plan.tokens, " scale=", options.scale,
      " block_bytes=", plan.bytes, " dtype=", DTypeName(plan.meta.dtype),
      plan.mix.kv_only() ? "" : " class_mix=", plan.mix.kv_only() ? "" : plan.mix.ToString());
}

void PlanOtherClasses(const Options& options, BlockPlan& plan) {
  plan.mix = options.class_mix;
  if (plan.mix.kv_only()) return;
  const Model& model = *options.model;
  const auto embedding_bytes = static_cast<uint64_t>(model.hidden) * kEmbeddingElementBytes;
  for (size_t i = 0; i < kImageTokens.size(); ++i) {
    plan.image_bytes[i] =
        ScaledBytes(embedding_bytes * static_cast<uint64_t>(model.vision_levels) * kImageTokens[i],
                    options.scale);
  }
  plan.text_bytes = ScaledBytes(embedding_bytes * plan.tokens, options.scale);
}

}  // namespace

BlockPlan::Tensor BlockPlan::Of(uint64_t block_id) const {
  const TensorClass tensor_class = mix.Of(block_id);
  switch (tensor_class) {
    case TensorClass::kVision: {
      const uint64_t image = image_bytes[Scramble(~block_id) % image_bytes.size()];
      return {tensor_class, image, TensorMeta::Bytes(image)};
    }
    case TensorClass::kText:
      return {tensor_class, text_bytes, TensorMeta::Bytes(text_bytes)};
    case TensorClass::kKv:
    case TensorClass::kGeneral:
      break;
  }
  return {TensorClass::kKv, bytes, meta};
}

uint64_t BlockPlan::bytes_max() const {
  const uint64_t vision_bytes = mix.vision > 0 ? image_bytes.back() : 0;
  return std::max({mix.kv > 0 ? bytes : 0, vision_bytes, mix.text > 0 ? text_bytes : 0});
}

absl::StatusOr<BlockPlan> PlanBlocks(const Options& options, TraceFormat format) {
  BlockPlan plan;
  plan.tokens = options.block_tokens != 0 ? options.block_tokens : DefaultBlockTokens(format);
  plan.bytes = ScaledBytes(options.kv_bytes_per_token * plan.tokens, options.scale);
  PlanOtherClasses(options, plan);
  // Each request in hand pins at least one block, and there must be room for another beside it.
  const auto check_room = [&](const char* option, uint64_t bytes) {
    if (plan.bytes_max() * 2 * options.concurrency <= bytes) return absl::OkStatus();
    return absl::InvalidArgumentError(absl::StrCat(
        option, ": ", FormatBytes(bytes), " is too small for ", options.concurrency,
        " requests at a time with blocks of ", FormatBytes(plan.bytes_max()),
        " (each needs two); a larger ", option, ", a smaller --block-tokens or a --scale helps"));
  };
  CAIRN_RETURN_IF_ERROR(check_room("--l2", options.l2_bytes));
  if (options.l1_bytes > 0) CAIRN_RETURN_IF_ERROR(check_room("--l1", options.l1_bytes));
  plan.meta = MetaOf(options, plan);
  plan.fingerprint = FingerprintOf(options, plan);
  return plan;
}

}  // namespace cairn::offload
