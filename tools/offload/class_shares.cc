#include "tools/offload/class_shares.h"

#include <array>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "src/base/strings.h"

namespace cairn::offload {

absl::StatusOr<ClassShares> ParseClassShares(std::string_view text) {
  const absl::Status mistake = absl::InvalidArgumentError(
      absl::StrCat("\"", ToAbsl(text), "\" are not shares such as kv=0.5:1,vision=0:0.3"));
  using Pair = std::pair<absl::string_view, absl::string_view>;
  ClassShares shares;
  std::array<bool, kTensorClasses> named = {};
  for (const absl::string_view part : absl::StrSplit(ToAbsl(text), ',')) {
    const Pair sides = absl::StrSplit(part, absl::MaxSplits('=', 1));
    size_t index = 0;
    while (index < kTensorClasses &&
           sides.first != TensorClassName(static_cast<TensorClass>(index))) {
      ++index;
    }
    if (index == kTensorClasses || std::exchange(named[index], true)) return mistake;
    const Pair limits = absl::StrSplit(sides.second, absl::MaxSplits(':', 1));
    ClassShare& share = shares.of(static_cast<TensorClass>(index));
    if (!absl::SimpleAtod(limits.first, &share.min) ||
        !absl::SimpleAtod(limits.second, &share.max)) {
      return mistake;
    }
  }
  return shares;
}

std::string ToString(const ClassShares& shares) {
  std::string text;
  for (size_t i = 0; i < kTensorClasses; ++i) {
    const auto tensor_class = static_cast<TensorClass>(i);
    const ClassShare& share = shares.of(tensor_class);
    absl::StrAppend(&text, i == 0 ? "" : ",", TensorClassName(tensor_class), "=", share.min, ":",
                    share.max);
  }
  return text;
}

}  // namespace cairn::offload
