#include "tools/offload/block_plan.h"

#include <algorithm>
#include <vector>

#include "absl/strings/str_cat.h"
#include "src/base/strings.h"

namespace cairn::offload {
namespace {

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
  return absl::StrCat("kv-offload ", source, " block_tokens=", plan.tokens,
                      " scale=", options.scale, " block_bytes=", plan.bytes,
                      " dtype=", DTypeName(plan.meta.dtype));
}

}  // namespace

absl::StatusOr<BlockPlan> PlanBlocks(const Options& options, TraceFormat format) {
  BlockPlan plan;
  plan.tokens = options.block_tokens != 0 ? options.block_tokens : DefaultBlockTokens(format);
  plan.bytes = ScaledBytes(options.kv_bytes_per_token * plan.tokens, options.scale);
  // Each request in hand pins at least one block, and there must be room for another beside it.
  if (plan.bytes * 2 * options.concurrency > options.l2_bytes) {
    return absl::InvalidArgumentError(absl::StrCat(
        "--l2: ", FormatBytes(options.l2_bytes), " is too small for ", options.concurrency,
        " requests at a time with blocks of ", FormatBytes(plan.bytes),
        " (each needs two); a larger --l2, a smaller --block-tokens or a --scale helps"));
  }
  plan.meta = MetaOf(options, plan);
  plan.fingerprint = FingerprintOf(options, plan);
  return plan;
}

}  // namespace cairn::offload
