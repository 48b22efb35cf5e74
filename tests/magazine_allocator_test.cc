// MagazineAllocator from many threads, and what the stripes keep.

#include "tiers/magazine_allocator.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <functional>
#include <memory>
#include <random>
#include <thread>
#include <vector>

#include "gtest/gtest.h"
#include "tests/allocator_kinds.h"

namespace cairn {
namespace {

constexpr uint64_t kAlignment = 4096;
constexpr uint64_t kSpaceBytes = uint64_t{256} << 20;
constexpr int kThreads = 4;

class MagazineAllocatorTest : public testing::TestWithParam<AllocatorKind> {
 protected:
  void SetUp() override {
    auto allocator = MagazineAllocator::Create(GetParam(), kSpaceBytes, kAlignment);
    ASSERT_TRUE(allocator.ok()) << allocator.status();
    allocator_ = std::move(*allocator);
  }

  static void OnThreads(const std::function<void(int thread)>& body) {
    std::vector<std::jthread> threads;
    for (int thread = 0; thread < kThreads; ++thread) threads.emplace_back(body, thread);
  }

  std::unique_ptr<MagazineAllocator> allocator_;
};

// Each unit has an owner at most: who allocates it marks it, and finds no other's mark.
TEST_P(MagazineAllocatorTest, NoTwoThreadsHaveTheSame) {
  constexpr int kSteps = 5000;
  std::vector<std::atomic<int>> owners(kSpaceBytes / kAlignment);
  std::atomic<int> overlaps = 0;
  const auto mark = [&](Extent extent, int from, int to) {
    for (uint64_t unit = extent.offset / kAlignment;
         unit < (extent.offset + extent.bytes) / kAlignment; ++unit) {
      if (owners[unit].exchange(to) != from) ++overlaps;
    }
  };
  // What one has allocated another frees.
  std::array<std::atomic<uint64_t>, 16> handed_over = {};
  constexpr uint64_t kHandedOverBytes = 2 * kAlignment;
  OnThreads([&](int thread) {
    std::mt19937_64 random(static_cast<uint64_t>(thread));
    std::vector<Extent> mine;
    for (int step = 0; step < kSteps; ++step) {
      const bool odd = random() % 8 == 0;
      const uint64_t bytes = odd ? 1 + random() % (40 * kAlignment) : kHandedOverBytes;
      const absl::StatusOr<Extent> extent = allocator_->Allocate(bytes);
      if (extent.ok()) {
        mark(*extent, 0, thread + 1);
        if (extent->bytes == kHandedOverBytes) {
          mark(*extent, thread + 1, -1);
          // An offset of 0 stands for none, so it is one more.
          const uint64_t other = handed_over[random() % 16].exchange(extent->offset + 1);
          if (other != 0) {
            const Extent of_other = {other - 1, kHandedOverBytes};
            mark(of_other, -1, 0);
            EXPECT_TRUE(allocator_->Free(of_other).ok());
          }
        } else {
          mine.push_back(*extent);
        }
      }
      if (mine.size() > 200) {
        mark(mine.back(), thread + 1, 0);
        EXPECT_TRUE(allocator_->Free(mine.back()).ok());
        mine.pop_back();
      }
    }
    for (const Extent& extent : mine) {
      mark(extent, thread + 1, 0);
      EXPECT_TRUE(allocator_->Free(extent).ok());
    }
  });
  for (const std::atomic<uint64_t>& offset : handed_over) {
    if (offset != 0) {
      EXPECT_TRUE(allocator_->Free({offset - 1, kHandedOverBytes}).ok());
    }
  }
  EXPECT_EQ(overlaps, 0);
  EXPECT_EQ(allocator_->bytes_used(), 0u);
  EXPECT_TRUE(allocator_->Allocate(kSpaceBytes).ok());
}

TEST_P(MagazineAllocatorTest, OfTwoWhoFreeTheSameOneIsRefused) {
  constexpr int kExtents = 2000;
  std::vector<Extent> extents;
  for (int i = 0; i < kExtents; ++i) extents.push_back(*allocator_->Allocate(2 * kAlignment));
  std::atomic<int> freed = 0;
  OnThreads([&](int) {
    for (const Extent& extent : extents) {
      const absl::Status status = allocator_->Free(extent);
      if (status.ok()) {
        ++freed;
      } else {
        EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
      }
    }
  });
  EXPECT_EQ(freed, kExtents);
  EXPECT_EQ(allocator_->bytes_used(), 0u);
}

// The last block is had though other threads' stripes kept some.
TEST_P(MagazineAllocatorTest, WhatStripesKeepIsGivenWhenItIsNeeded) {
  const uint64_t bytes = 4 * kAlignment;
  const uint64_t blocks = kSpaceBytes / bytes;
  std::vector<Extent> extents(blocks);
  std::atomic<uint64_t> next = 0;
  OnThreads([&](int) {
    for (uint64_t i = next++; i < blocks; i = next++) {
      const absl::StatusOr<Extent> extent = allocator_->Allocate(bytes);
      ASSERT_TRUE(extent.ok()) << i << ": " << extent.status();
      extents[i] = *extent;
    }
  });
  EXPECT_EQ(allocator_->bytes_used(), kSpaceBytes);
  EXPECT_EQ(allocator_->Allocate(1).status().code(), absl::StatusCode::kResourceExhausted);
  OnThreads([&](int thread) {
    for (uint64_t i = static_cast<uint64_t>(thread); i < blocks; i += kThreads) {
      ASSERT_TRUE(allocator_->Free(extents[i]).ok());
      if (i >= 40 * kThreads) continue;
      // Asks for it often, as who keeps some does.
      const absl::StatusOr<Extent> again = allocator_->Allocate(bytes);
      ASSERT_TRUE(again.ok()) << again.status();
      ASSERT_TRUE(allocator_->Free(*again).ok());
    }
  });
  EXPECT_EQ(allocator_->bytes_used(), 0u);
  EXPECT_LT(allocator_->largest_free_bytes(), kSpaceBytes) << "nothing was kept";
  EXPECT_TRUE(allocator_->Allocate(kSpaceBytes).ok());
}

// What lies in two neighbours that are withheld is of neither alone.
TEST_P(MagazineAllocatorTest, NeighboursAreWithheldAndRestoredOneByOne) {
  constexpr uint64_t kPartBytes = uint64_t{16} << 20;
  const std::array<Extent, 4> parts = {Extent{0, kPartBytes}, Extent{kPartBytes, kPartBytes},
                                       Extent{2 * kPartBytes, kPartBytes},
                                       Extent{3 * kPartBytes, kPartBytes}};
  const auto empty = [&](const Extent& part) {
    return allocator_->withheld_bytes(part) == part.bytes;
  };
  std::vector<Extent> extents;
  for (const uint64_t bytes : {24 << 20, 12288, 12 << 20, 32 << 20}) {
    for (int i = 0; i < 2; ++i) extents.push_back(*allocator_->Allocate(bytes));
  }
  // The ends of the parts first, so that what is freed reaches into those on both sides.
  for (const size_t part : {1, 0, 3, 2}) EXPECT_TRUE(allocator_->Withhold(parts[part]));
  EXPECT_FALSE(allocator_->Withhold({kPartBytes / 2, kPartBytes}));
  for (const Extent& extent : extents) ASSERT_TRUE(allocator_->Free(extent).ok());
  for (const Extent& part : parts) EXPECT_TRUE(empty(part)) << part.offset;
  EXPECT_EQ(allocator_->bytes_used(), 0u);

  allocator_->Restore(parts[1]);
  for (const size_t part : {0, 2, 3}) EXPECT_TRUE(empty(parts[part])) << part;
  std::vector<Extent> small;
  for (auto extent = allocator_->Allocate(kAlignment); extent.ok();
       extent = allocator_->Allocate(kAlignment)) {
    small.push_back(*extent);
    for (const size_t part : {0, 2, 3}) {
      ASSERT_EQ(Intersect(*extent, parts[part]).bytes, 0u) << extent->offset;
    }
  }
  for (const Extent& extent : small) ASSERT_TRUE(allocator_->Free(extent).ok());
  for (const size_t part : {3, 0, 2}) allocator_->Restore(parts[part]);
  EXPECT_EQ(allocator_->withheld_bytes(), 0u);
  const absl::StatusOr<Extent> all = allocator_->Allocate(kSpaceBytes);
  ASSERT_TRUE(all.ok()) << all.status();
}

INSTANTIATE_TEST_SUITE_P(Pools, MagazineAllocatorTest,
                         testing::Values(AllocatorKind::kHybrid, AllocatorKind::kBuddy,
                                         AllocatorKind::kBestFit),
                         NameOfKind);

}  // namespace
}  // namespace cairn
