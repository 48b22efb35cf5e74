#pragma once

#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "cairn/options.h"

namespace cairn::offload {

// "default", "lru", ... kInvalidArgument, listing the names there are.
absl::StatusOr<EvictionKind> FindEviction(std::string_view name);

// "default, lru, ..."
std::string EvictionNames();

}  // namespace cairn::offload
