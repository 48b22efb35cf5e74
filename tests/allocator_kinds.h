#pragma once

#include <functional>
#include <memory>
#include <ostream>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "tiers/allocator.h"
#include "tiers/magazine_allocator.h"

namespace cairn {

// One implementation of Allocator, for the suites that run on all of them.
struct AllocatorUnderTest {
  std::string name;
  std::function<absl::StatusOr<std::unique_ptr<Allocator>>(uint64_t space_bytes,
                                                           uint64_t alignment)>
      create;
  // Whether blocks of any one size fill the space, once the size is known to be frequent.
  bool wastes_nothing_uniform = true;
  // Whether an allocation is rounded up to the alignment and no further.
  bool is_exact = false;
};
inline void PrintTo(const AllocatorUnderTest& allocator, std::ostream* out) {
  *out << allocator.name;
}

inline std::vector<AllocatorUnderTest> AllocatorsUnderTest() {
  const auto of_kind = [](AllocatorKind kind) {
    return [kind](uint64_t space_bytes, uint64_t alignment) {
      return Allocator::Create(kind, space_bytes, alignment);
    };
  };
  const auto behind_magazines = [](AllocatorKind kind) {
    return [kind](uint64_t space_bytes, uint64_t alignment) {
      return MagazineAllocator::Create(kind, space_bytes, alignment);
    };
  };
  return {
      {.name = "Hybrid", .create = of_kind(AllocatorKind::kHybrid)},
      {.name = "Buddy", .create = of_kind(AllocatorKind::kBuddy), .wastes_nothing_uniform = false},
      {.name = "BestFit", .create = of_kind(AllocatorKind::kBestFit), .is_exact = true},
      {.name = "HybridBehindMagazines", .create = behind_magazines(AllocatorKind::kHybrid)},
      {.name = "BuddyBehindMagazines",
       .create = behind_magazines(AllocatorKind::kBuddy),
       .wastes_nothing_uniform = false},
      {.name = "BestFitBehindMagazines",
       .create = behind_magazines(AllocatorKind::kBestFit),
       .is_exact = true},
  };
}

inline std::string NameOf(const testing::TestParamInfo<AllocatorUnderTest>& info) {
  return info.param.name;
}
inline std::string NameOfKind(const testing::TestParamInfo<AllocatorKind>& info) {
  switch (info.param) {
    case AllocatorKind::kHybrid:
      return "Hybrid";
    case AllocatorKind::kBuddy:
      return "Buddy";
    case AllocatorKind::kBestFit:
      return "BestFit";
  }
  return "";
}

}  // namespace cairn
