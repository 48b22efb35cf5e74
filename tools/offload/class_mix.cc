#include "tools/offload/class_mix.h"

#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "src/base/strings.h"
#include "tools/offload/block_content.h"

namespace cairn::offload {
namespace {

constexpr uint32_t kWeightMax = 1'000'000;
// Apart from the seed of the tensor's bytes.
constexpr uint64_t kSalt = 0x636c617373206d78;

}  // namespace

TensorClass ClassMix::Of(uint64_t id) const {
  const uint64_t draw = Scramble(id ^ kSalt) % (uint64_t{kv} + vision + text);
  if (draw < kv) return TensorClass::kKv;
  return draw < uint64_t{kv} + vision ? TensorClass::kVision : TensorClass::kText;
}

std::string ClassMix::ToString() const {
  return absl::StrCat("kv:", kv, ",vision:", vision, ",text:", text);
}

absl::StatusOr<ClassMix> ParseClassMix(std::string_view text) {
  const absl::Status mistake = absl::InvalidArgumentError(
      absl::StrCat("\"", ToAbsl(text), "\" is not a mix such as kv:70,vision:20,text:10"));
  ClassMix mix = {.kv = 0};
  for (const absl::string_view part : absl::StrSplit(ToAbsl(text), ',')) {
    const std::pair<absl::string_view, absl::string_view> named =
        absl::StrSplit(part, absl::MaxSplits(absl::ByAnyChar(":="), 1));
    uint32_t* const weight = named.first == "kv"       ? &mix.kv
                             : named.first == "vision" ? &mix.vision
                             : named.first == "text"   ? &mix.text
                                                       : nullptr;
    if (weight == nullptr || !absl::SimpleAtoi(named.second, weight) || *weight > kWeightMax) {
      return mistake;
    }
  }
  if (mix.kv == 0 && mix.kv_only()) return mistake;
  return mix;
}

}  // namespace cairn::offload
