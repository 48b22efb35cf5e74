// The contract of Allocator, on every implementation.

#include "tiers/allocator.h"

#include <algorithm>
#include <limits>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "src/base/strings.h"
#include "tests/allocator_kinds.h"

namespace cairn {
namespace {

constexpr uint64_t kAlignment = 4096;
constexpr uint64_t kMax = std::numeric_limits<uint64_t>::max();

class AllocatorTest : public testing::TestWithParam<AllocatorUnderTest> {
 protected:
  std::unique_ptr<Allocator> MustCreate(uint64_t units) {
    auto allocator = GetParam().create(units * kAlignment, kAlignment);
    EXPECT_TRUE(allocator.ok()) << allocator.status();
    return allocator.ok() ? std::move(*allocator) : nullptr;
  }

  // All that there is room for.
  static std::vector<Extent> Fill(Allocator& allocator, uint64_t bytes) {
    std::vector<Extent> extents;
    while (true) {
      const absl::StatusOr<Extent> extent = allocator.Allocate(bytes);
      if (!extent.ok()) {
        EXPECT_EQ(extent.status().code(), absl::StatusCode::kResourceExhausted);
        return extents;
      }
      EXPECT_GE(extent->bytes, bytes);
      extents.push_back(*extent);
    }
  }

  static void ExpectDisjoint(std::vector<Extent> extents, uint64_t space_bytes) {
    std::sort(extents.begin(), extents.end(),
              [](const Extent& a, const Extent& b) { return a.offset < b.offset; });
    uint64_t end = 0;
    for (const Extent& extent : extents) {
      ASSERT_EQ((extent.offset | extent.bytes) % kAlignment, 0u);
      ASSERT_GE(extent.offset, end);
      end = extent.offset + extent.bytes;
    }
    ASSERT_LE(end, space_bytes);
  }

  static void ExpectRefused(Allocator& allocator, Extent extent) {
    const uint64_t used = allocator.bytes_used();
    const absl::Status status = allocator.Free(extent);
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument)
        << extent.offset << " +" << extent.bytes;
    EXPECT_NE(std::string(ToStd(status.message())).find("is not allocated"), std::string::npos)
        << status;
    EXPECT_EQ(allocator.bytes_used(), used);
  }
};

TEST_P(AllocatorTest, IsEmptyAtFirst) {
  auto allocator = MustCreate(100);
  EXPECT_EQ(allocator->bytes_max(), 100 * kAlignment);
  EXPECT_EQ(allocator->bytes_used(), 0u);
  EXPECT_GT(allocator->largest_free_bytes(), 50 * kAlignment);
}

TEST_P(AllocatorTest, RoundsUpToTheAlignmentAtLeast) {
  auto allocator = MustCreate(1000);
  std::vector<Extent> extents;
  uint64_t used = 0;
  for (const uint64_t bytes :
       {uint64_t{1}, kAlignment, kAlignment + 1, 5 * kAlignment, 77 * kAlignment - 1}) {
    const auto extent = allocator->Allocate(bytes);
    ASSERT_TRUE(extent.ok()) << extent.status();
    EXPECT_GE(extent->bytes, bytes);
    const uint64_t rounded = (bytes + kAlignment - 1) / kAlignment * kAlignment;
    if (GetParam().is_exact) {
      EXPECT_EQ(extent->bytes, rounded);
    }
    used += extent->bytes;
    EXPECT_EQ(allocator->bytes_used(), used);
    extents.push_back(*extent);
  }
  ExpectDisjoint(extents, allocator->bytes_max());
}

TEST_P(AllocatorTest, BlocksOfOneSizeFillTheSpace) {
  for (const uint64_t units : {1, 2, 3, 5, 8, 64, 65, 100}) {
    auto allocator = MustCreate(20'000);
    const std::vector<Extent> extents = Fill(*allocator, units * kAlignment);
    ExpectDisjoint(extents, allocator->bytes_max());
    if (!GetParam().wastes_nothing_uniform) continue;
    // What it took to know the size is 128 requests, each a thirty-second larger.
    const uint64_t lost = GetParam().is_exact ? 0 : (128 + 31) / 32;
    EXPECT_GE(extents.size() + lost, 20'000 / units) << units;
  }
}

TEST_P(AllocatorTest, WhatWasManyCanBeOne) {
  auto allocator = MustCreate(3000);
  const uint64_t largest = allocator->largest_free_bytes();
  for (const uint64_t bytes : {uint64_t{1}, 3 * kAlignment, 100 * kAlignment}) {
    std::vector<Extent> extents = Fill(*allocator, bytes);
    EXPECT_EQ(allocator->Allocate(largest).status().code(), absl::StatusCode::kResourceExhausted);
    // Not in their order.
    for (size_t i = 0; i < extents.size(); i += 2) {
      ASSERT_TRUE(allocator->Free(extents[i]).ok());
    }
    for (size_t i = 1; i < extents.size(); i += 2) {
      ASSERT_TRUE(allocator->Free(extents[i]).ok());
    }
    EXPECT_EQ(allocator->bytes_used(), 0u);
    const auto one = allocator->Allocate(largest);
    ASSERT_TRUE(one.ok()) << one.status();
    EXPECT_TRUE(allocator->Free(*one).ok());
  }
}

TEST_P(AllocatorTest, RefusesSizesThatCannotBe) {
  auto allocator = MustCreate(16);
  EXPECT_EQ(allocator->Allocate(0).status().code(), absl::StatusCode::kInvalidArgument);
  for (const uint64_t bytes : {16 * kAlignment + 1, uint64_t{1} << 32, uint64_t{1} << 63,
                               kMax - kAlignment, kMax - kAlignment + 2, kMax}) {
    EXPECT_EQ(allocator->Allocate(bytes).status().code(), absl::StatusCode::kResourceExhausted)
        << bytes;
  }
  EXPECT_EQ(allocator->bytes_used(), 0u);
  EXPECT_EQ(Fill(*allocator, 1).size(), 16u);
}

TEST_P(AllocatorTest, RefusesWhatIsNotAllocated) {
  auto allocator = MustCreate(4096);
  for (const uint64_t bytes : {kAlignment, 3 * kAlignment, 100 * kAlignment}) {
    std::vector<Extent> extents;
    for (int i = 0; i < 5; ++i) {
      extents.push_back(*allocator->Allocate(bytes));
    }
    const Extent extent = extents[2];
    ExpectRefused(*allocator, {extent.offset, 0});
    ExpectRefused(*allocator, {extent.offset, 1});
    ExpectRefused(*allocator, {extent.offset, kMax});
    ExpectRefused(*allocator, {extent.offset, 0 - extent.offset});
    ExpectRefused(*allocator, {extent.offset, extent.bytes + kAlignment});
    ExpectRefused(*allocator, {extent.offset, extent.bytes - kAlignment});
    ExpectRefused(*allocator, {extent.offset, extent.bytes * 2});
    ExpectRefused(*allocator, {extent.offset, extent.bytes + (uint64_t{1} << 44)});
    ExpectRefused(*allocator, {extent.offset + 1, extent.bytes});
    ExpectRefused(*allocator, {extent.offset + kAlignment / 2, extent.bytes});
    ExpectRefused(*allocator, {extent.offset + (uint64_t{1} << 44), extent.bytes});
    ExpectRefused(*allocator, {0, allocator->bytes_max()});
    ExpectRefused(*allocator, {allocator->bytes_max(), extent.bytes});
    ExpectRefused(*allocator, {allocator->bytes_max() - kAlignment, extent.bytes});
    ExpectRefused(*allocator, {kMax - kAlignment + 1, kAlignment});
    ExpectRefused(*allocator, {kMax, kMax});
    EXPECT_TRUE(allocator->Free(extent).ok());
    ExpectRefused(*allocator, extent);
    for (const size_t other : {1, 3, 0, 4}) {
      EXPECT_TRUE(allocator->Free(extents[other]).ok());
      ExpectRefused(*allocator, extents[other]);
    }
  }
}

// Of blocks that came by the hundred, which an implementation may keep otherwise.
TEST_P(AllocatorTest, RefusesWhatIsNotAllocatedOfAFrequentSize) {
  auto allocator = MustCreate(4096);
  std::vector<Extent> extents = Fill(*allocator, 3 * kAlignment);
  ASSERT_GT(extents.size(), 500u);
  for (size_t i = 0; i < extents.size(); i += 3) {
    const Extent extent = extents[i];
    ASSERT_TRUE(allocator->Free(extent).ok());
    ExpectRefused(*allocator, extent);
    ExpectRefused(*allocator, {extent.offset + kAlignment, kAlignment});
    ExpectRefused(*allocator, {extent.offset + kAlignment, extent.bytes});
    ExpectRefused(*allocator, {extent.offset, extent.bytes * 64});
    if (i % 2 == 0) {
      const auto again = allocator->Allocate(3 * kAlignment);
      ASSERT_TRUE(again.ok()) << again.status();
      extents[i] = *again;
    } else {
      extents[i] = {};
    }
  }
  for (const Extent& extent : extents) {
    if (extent.bytes > 0) {
      EXPECT_TRUE(allocator->Free(extent).ok());
    }
  }
  EXPECT_EQ(allocator->bytes_used(), 0u);
}

// Wherever a range lies in what was taken as a whole for them, all of it can be one run again.
TEST_P(AllocatorTest, AnEmptiedRangeAmongBlocksOfAFrequentSizeIsOneRun) {
  constexpr uint64_t kBlockBytes = 9 * kAlignment;
  auto allocator = MustCreate(65536);
  auto* const space = dynamic_cast<SpaceAllocator*>(allocator.get());
  if (space == nullptr || !GetParam().wastes_nothing_uniform) GTEST_SKIP() << "no such ranges";
  std::vector<Extent> extents = Fill(*space, kBlockBytes);
  for (const uint64_t first_unit : {uint64_t{20'000}, uint64_t{20'480}, uint64_t{64'900}}) {
    const Extent range = space->Widen({first_unit * kAlignment, 50 * kBlockBytes});
    EXPECT_LE(range.bytes, 52 * kBlockBytes);
    const uint64_t used_bytes = space->bytes_used();
    space->Divide(range);
    EXPECT_EQ(space->bytes_used(), used_bytes);
    std::erase_if(extents, [&](const Extent& extent) {
      if (Intersect(extent, range).bytes == 0) return false;
      EXPECT_TRUE(space->Free(extent).ok());
      ExpectRefused(*space, extent);
      return true;
    });
    EXPECT_GE(space->largest_free_bytes(), range.bytes);
    const auto whole = space->Allocate(range.bytes / 33 * 32);
    ASSERT_TRUE(whole.ok()) << whole.status();
    EXPECT_GT(Intersect(*whole, range).bytes, 0u);
    extents.push_back(*whole);
  }
  for (const Extent& extent : extents) EXPECT_TRUE(space->Free(extent).ok()) << extent.offset;
  EXPECT_EQ(space->bytes_used(), 0u);
  EXPECT_TRUE(space->Allocate(space->bytes_max()).ok());
}

TEST_P(AllocatorTest, OfNoSpaceHasNoRoom) {
  auto allocator = MustCreate(0);
  EXPECT_EQ(allocator->bytes_max(), 0u);
  EXPECT_EQ(allocator->largest_free_bytes(), 0u);
  EXPECT_EQ(allocator->Allocate(1).status().code(), absl::StatusCode::kResourceExhausted);
  ExpectRefused(*allocator, {0, kAlignment});
}

TEST_P(AllocatorTest, OfOneUnitHasOneExtent) {
  auto allocator = MustCreate(1);
  const std::vector<Extent> extents = Fill(*allocator, 1);
  ASSERT_EQ(extents.size(), 1u);
  EXPECT_EQ(allocator->largest_free_bytes(), 0u);
  EXPECT_TRUE(allocator->Free(extents[0]).ok());
  EXPECT_EQ(allocator->largest_free_bytes(), kAlignment);
}

TEST_P(AllocatorTest, OtherAlignmentsHold) {
  for (const uint64_t alignment : {uint64_t{1}, uint64_t{64}, uint64_t{65536}, uint64_t{2} << 20}) {
    const auto allocator = GetParam().create(512 * alignment, alignment);
    ASSERT_TRUE(allocator.ok()) << allocator.status();
    for (int i = 0; i < 20; ++i) {
      const auto extent = (*allocator)->Allocate(3 * alignment);
      ASSERT_TRUE(extent.ok()) << extent.status();
      EXPECT_EQ((extent->offset | extent->bytes) % alignment, 0u);
    }
  }
}

TEST_P(AllocatorTest, RefusesASpaceThatCannotBeCut) {
  struct Bad {
    uint64_t space_bytes;
    uint64_t alignment;
    std::string message;
  };
  for (const Bad& bad : {Bad{65536, 0, "alignment 0 is not a power of two"},
                         Bad{65536, 4097, "alignment 4097 is not a power of two"},
                         Bad{65536, 65535, "alignment 65535 is not a power of two"},
                         Bad{65537, 4096, "space of 65537 bytes is not a multiple of 4096"},
                         // Larger than the space.
                         Bad{65536, 131072, "space of 65536 bytes is not a multiple of 131072"},
                         Bad{65536, uint64_t{1} << 63, "is not a multiple of"}}) {
    const auto allocator = GetParam().create(bad.space_bytes, bad.alignment);
    EXPECT_EQ(allocator.status().code(), absl::StatusCode::kInvalidArgument);
    EXPECT_NE(std::string(ToStd(allocator.status().message())).find(bad.message), std::string::npos)
        << allocator.status();
  }
}

INSTANTIATE_TEST_SUITE_P(All, AllocatorTest, testing::ValuesIn(AllocatorsUnderTest()), NameOf);

}  // namespace
}  // namespace cairn
