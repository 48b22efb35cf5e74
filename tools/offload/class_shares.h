#pragma once

#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "cairn/options.h"

namespace cairn::offload {

// "kv=0.5:1,vision=0:0.3": the least and the most of each class, in any order and each once; what
// is not named has 0:1. kInvalidArgument for anything else. Whether a store takes such shares is
// for StoreOptions::Validate to say.
absl::StatusOr<ClassShares> ParseClassShares(std::string_view text);

// "general=0:1,kv=0.5:1,vision=0:0.3,text=0:1".
std::string ToString(const ClassShares& shares);

}  // namespace cairn::offload
