#include "tools/offload/eviction_name.h"

#include <array>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "src/base/strings.h"

namespace cairn::offload {
namespace {

struct Named {
  const char* name;
  EvictionKind kind;
};
constexpr std::array<Named, 5> kEvictions = {{{"default", EvictionKind::kTuned},
                                              {"lru", EvictionKind::kLru},
                                              {"clock", EvictionKind::kClock},
                                              {"arc", EvictionKind::kArc},
                                              {"s3fifo", EvictionKind::kS3Fifo}}};

}  // namespace

absl::StatusOr<EvictionKind> FindEviction(std::string_view name) {
  for (const Named& one : kEvictions) {
    if (name == one.name) return one.kind;
  }
  return absl::InvalidArgumentError(
      absl::StrCat("\"", ToAbsl(name), "\" is none of ", EvictionNames()));
}

std::string EvictionNames() {
  return absl::StrJoin(kEvictions, ", ", [](std::string* text, const Named& one) {
    absl::StrAppend(text, one.name);
  });
}

}  // namespace cairn::offload
