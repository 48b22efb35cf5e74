#include "tiers/extent_allocator.h"

#include <algorithm>
#include <limits>
#include <map>
#include <random>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "src/base/strings.h"

namespace cairn {
namespace {

constexpr uint64_t kAlignment = 4096;
constexpr uint64_t kAnySeed = 0;  // Another one in every run; a failure prints it.

// The simplest thing that is right: the taken intervals, and a walk over all of them for a
// question.
class Model {
 public:
  explicit Model(uint64_t space_bytes) : space_bytes_(space_bytes) {}

  void Take(Extent extent) { taken_[extent.offset] = extent.bytes; }
  void Give(Extent extent) { taken_.erase(extent.offset); }

  bool IsFree(Extent extent) const {
    if (extent.bytes > space_bytes_ || extent.offset > space_bytes_ - extent.bytes) return false;
    return std::none_of(taken_.begin(), taken_.end(), [extent](const auto& other) {
      return extent.offset < other.first + other.second &&
             other.first < extent.offset + extent.bytes;
    });
  }

  std::vector<uint64_t> FreeRunBytes() const {
    std::vector<uint64_t> runs;
    uint64_t end = 0;
    for (const auto& [offset, bytes] : taken_) {
      if (offset > end) runs.push_back(offset - end);
      end = offset + bytes;
    }
    if (space_bytes_ > end) runs.push_back(space_bytes_ - end);
    return runs;
  }

  uint64_t largest_free_bytes() const {
    const std::vector<uint64_t> runs = FreeRunBytes();
    return runs.empty() ? 0 : *std::max_element(runs.begin(), runs.end());
  }

  // The length of the run that best fit must cut; 0 for none.
  uint64_t BestFitBytes(uint64_t bytes) const {
    uint64_t best = 0;
    for (const uint64_t run : FreeRunBytes()) {
      if (run >= bytes && (best == 0 || run < best)) best = run;
    }
    return best;
  }

  // The length of the free run that begins at `offset`.
  uint64_t FreeRunBytesAt(uint64_t offset) const {
    const auto next = taken_.lower_bound(offset);
    return (next == taken_.end() ? space_bytes_ : next->first) - offset;
  }

 private:
  const uint64_t space_bytes_;
  std::map<uint64_t, uint64_t> taken_;
};

std::unique_ptr<ExtentAllocator> MustCreate(uint64_t space_bytes,
                                            absl::Span<const Extent> reserved = {},
                                            absl::Span<const Extent> in_use = {}) {
  auto allocator = ExtentAllocator::Create(space_bytes, kAlignment, reserved, in_use);
  EXPECT_TRUE(allocator.ok()) << allocator.status();
  return allocator.ok() ? std::move(*allocator) : nullptr;
}

// One allocator beside its model, with random calls on both.
class ExtentAllocatorModelTest : public testing::TestWithParam<uint64_t> {
 protected:
  static constexpr uint64_t kSpaceBytes = 512 * kAlignment;

  void SetUp() override {
    seed_ = GetParam() == kAnySeed ? std::random_device()() : GetParam();
    random_.seed(seed_);
    const std::vector<Extent> reserved = {{128 * kAlignment, kAlignment},
                                          {256 * kAlignment, 2 * kAlignment}};
    in_use_ = {{0, 3 * kAlignment}, {129 * kAlignment, 7 * kAlignment}};
    allocator_ = MustCreate(kSpaceBytes, reserved, in_use_);
    ASSERT_NE(allocator_, nullptr);
    for (const Extent extent : reserved) model_.Take(extent);
    for (const Extent extent : in_use_) model_.Take(extent);
  }

  uint64_t Below(uint64_t limit) {
    return std::uniform_int_distribution<uint64_t>(0, limit - 1)(random_);
  }

  void AllocateSome() {
    const uint64_t bytes = 1 + Below(Below(4) == 0 ? 64 * kAlignment : 4 * kAlignment);
    const uint64_t rounded_bytes = (bytes + kAlignment - 1) / kAlignment * kAlignment;
    const uint64_t best_bytes = model_.BestFitBytes(rounded_bytes);
    const auto extent = allocator_->Allocate(bytes);
    if (best_bytes == 0) {
      EXPECT_EQ(extent.status().code(), absl::StatusCode::kResourceExhausted);
      return;
    }
    ASSERT_TRUE(extent.ok()) << extent.status();
    EXPECT_EQ(extent->bytes, rounded_bytes);
    EXPECT_EQ(extent->offset % kAlignment, 0u);
    ASSERT_TRUE(model_.IsFree(*extent));
    EXPECT_EQ(model_.FreeRunBytesAt(extent->offset), best_bytes) << "not the best fit";
    model_.Take(*extent);
    in_use_.push_back(*extent);
  }

  void FreeSome() {
    if (in_use_.empty()) return;
    const size_t victim = Below(in_use_.size());
    const Extent extent = in_use_[victim];
    EXPECT_TRUE(allocator_->Free(extent).ok());
    model_.Give(extent);
    in_use_[victim] = in_use_.back();
    in_use_.pop_back();
    ExpectRefused(extent);
  }

  // Frees that are near the truth and not it.
  void FreeWrongly() {
    ExpectRefused({128 * kAlignment, kAlignment});
    ExpectRefused({kSpaceBytes, kAlignment});
    ExpectRefused({Below(kSpaceBytes), 1 + Below(kSpaceBytes)});
    if (in_use_.empty()) return;
    const Extent extent = in_use_[Below(in_use_.size())];
    ExpectRefused({extent.offset, extent.bytes + kAlignment});
    ExpectRefused({extent.offset, extent.bytes - kAlignment});
    ExpectRefused({extent.offset + kAlignment, extent.bytes});
    ExpectRefused({extent.offset, 0});
  }

  void ExpectRefused(Extent extent) {
    if (std::find(in_use_.begin(), in_use_.end(), extent) != in_use_.end()) return;
    EXPECT_EQ(allocator_->Free(extent).code(), absl::StatusCode::kInvalidArgument)
        << extent.offset << " +" << extent.bytes;
  }

  void ExpectSame() {
    uint64_t used_bytes = 0;
    for (const Extent extent : in_use_) used_bytes += extent.bytes;
    ASSERT_EQ(allocator_->bytes_used(), used_bytes);
    ASSERT_EQ(allocator_->bytes_max(), kSpaceBytes - 3 * kAlignment);
    ASSERT_EQ(allocator_->largest_free_bytes(), model_.largest_free_bytes());
  }

  uint64_t seed_ = 0;
  std::mt19937_64 random_;
  Model model_{kSpaceBytes};
  std::unique_ptr<ExtentAllocator> allocator_;
  std::vector<Extent> in_use_;
};

TEST_P(ExtentAllocatorModelTest, AgreesWithTheModel) {
  SCOPED_TRACE(testing::Message() << "seed " << seed_);
  for (int step = 0; step < 3000 && !HasFailure(); ++step) {
    // Waves of filling and of emptying, so that both ends are reached.
    const uint64_t fill_percent = (step / 500) % 2 == 0 ? 70 : 30;
    const uint64_t dice = Below(100);
    if (dice < 5) {
      FreeWrongly();
    } else if (dice < 5 + fill_percent * 95 / 100) {
      AllocateSome();
    } else {
      FreeSome();
    }
    ExpectSame();
  }
  while (!in_use_.empty() && !HasFailure()) FreeSome();
  ExpectSame();
  EXPECT_EQ(allocator_->largest_free_bytes(), (512 - 258) * kAlignment);
}

INSTANTIATE_TEST_SUITE_P(Seeds, ExtentAllocatorModelTest, testing::Values(1, 2, 3, kAnySeed));

TEST(ExtentAllocatorTest, UniformExtentsFillTheSpace) {
  constexpr uint64_t kBlockBytes = 5 * kAlignment;
  auto allocator = MustCreate(100 * kBlockBytes);
  std::vector<Extent> extents;
  for (int i = 0; i < 100; ++i) {
    auto extent = allocator->Allocate(kBlockBytes - 17);
    ASSERT_TRUE(extent.ok()) << extent.status();
    extents.push_back(*extent);
  }
  EXPECT_EQ(allocator->bytes_used(), allocator->bytes_max());
  EXPECT_EQ(allocator->largest_free_bytes(), 0u);
  EXPECT_EQ(allocator->Allocate(1).status().code(), absl::StatusCode::kResourceExhausted);
  for (const Extent extent : extents) EXPECT_TRUE(allocator->Free(extent).ok());
  EXPECT_EQ(allocator->largest_free_bytes(), allocator->bytes_max());
}

TEST(ExtentAllocatorTest, RefusesSizesThatCannotBe) {
  auto allocator = MustCreate(16 * kAlignment);
  EXPECT_EQ(allocator->Allocate(0).status().code(), absl::StatusCode::kInvalidArgument);
  for (const uint64_t bytes : {16 * kAlignment + 1, std::numeric_limits<uint64_t>::max(),
                               std::numeric_limits<uint64_t>::max() - kAlignment + 2}) {
    EXPECT_EQ(allocator->Allocate(bytes).status().code(), absl::StatusCode::kResourceExhausted);
  }
  EXPECT_EQ(allocator->bytes_used(), 0u);
}

TEST(ExtentAllocatorTest, ReservedExtentsKeepNeighboursApart) {
  const std::vector<Extent> reserved = {{4 * kAlignment, kAlignment}};
  auto allocator = MustCreate(8 * kAlignment, reserved);
  EXPECT_EQ(allocator->bytes_max(), 7 * kAlignment);
  EXPECT_EQ(allocator->largest_free_bytes(), 4 * kAlignment);
  EXPECT_EQ(allocator->Allocate(5 * kAlignment).status().code(),
            absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(allocator->Free(reserved[0]).code(), absl::StatusCode::kInvalidArgument);
}

TEST(ExtentAllocatorTest, WhatIsWithdrawnIsNeverAllocatedAgain) {
  auto allocator = MustCreate(12 * kAlignment);
  std::vector<Extent> extents;
  for (int i = 0; i < 6; ++i) extents.push_back(*allocator->Allocate(kAlignment));
  ASSERT_EQ(extents[4].offset, 4 * kAlignment);
  // Two in use, two free: the run that is free goes on behind the range.
  allocator->Withdraw({4 * kAlignment, 4 * kAlignment});
  EXPECT_EQ(allocator->bytes_max(), 10 * kAlignment);
  EXPECT_EQ(allocator->bytes_used(), 6 * kAlignment);
  EXPECT_EQ(allocator->withdrawn_bytes_used(4 * kAlignment), 2 * kAlignment);
  EXPECT_EQ(allocator->largest_free_bytes(), 4 * kAlignment);
  for (const Extent extent : extents) EXPECT_TRUE(allocator->Free(extent).ok());
  EXPECT_EQ(allocator->bytes_max(), 8 * kAlignment);
  EXPECT_EQ(allocator->bytes_used(), 0u);
  EXPECT_EQ(allocator->withdrawn_bytes_used(4 * kAlignment), 0u);
  for (int i = 0; i < 8; ++i) {
    const auto extent = allocator->Allocate(kAlignment);
    ASSERT_TRUE(extent.ok()) << extent.status();
    EXPECT_TRUE(extent->offset < 4 * kAlignment || extent->offset >= 8 * kAlignment);
  }
  EXPECT_EQ(allocator->Allocate(1).status().code(), absl::StatusCode::kResourceExhausted);
}

TEST(ExtentAllocatorTest, OfNoSpaceHasNoRoom) {
  auto allocator = MustCreate(0);
  EXPECT_EQ(allocator->bytes_max(), 0u);
  EXPECT_EQ(allocator->Allocate(1).status().code(), absl::StatusCode::kResourceExhausted);
}

TEST(ExtentAllocatorTest, LoadsAMillionExtents) {
  constexpr uint64_t kCount = 1'000'000;
  std::vector<Extent> in_use;
  in_use.reserve(kCount);
  // Every third block is free.
  for (uint64_t i = 0; i < kCount; ++i) {
    in_use.push_back({(i + i / 2) * kAlignment, kAlignment});
  }
  auto allocator = MustCreate(2 * kCount * kAlignment, {}, in_use);
  EXPECT_EQ(allocator->bytes_used(), kCount * kAlignment);
  EXPECT_TRUE(allocator->Free(in_use[12345]).ok());
  EXPECT_EQ(allocator->Free(in_use[12345]).code(), absl::StatusCode::kInvalidArgument);
}

struct BadSpace {
  std::string name = {};
  uint64_t space_bytes = 16 * kAlignment;
  uint64_t alignment = kAlignment;
  std::vector<Extent> reserved = {};
  std::vector<Extent> in_use = {};
  std::string message = {};
};

class ExtentAllocatorCreateTest : public testing::TestWithParam<BadSpace> {};

TEST_P(ExtentAllocatorCreateTest, NamesWhatIsWrong) {
  const BadSpace& bad = GetParam();
  const auto allocator =
      ExtentAllocator::Create(bad.space_bytes, bad.alignment, bad.reserved, bad.in_use);
  EXPECT_EQ(allocator.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_NE(std::string(ToStd(allocator.status().message())).find(bad.message), std::string::npos)
      << allocator.status();
}

std::vector<BadSpace> BadSpaces() {
  constexpr uint64_t kMax = std::numeric_limits<uint64_t>::max();
  return {
      {.name = "AlignmentZero", .alignment = 0, .message = "alignment 0"},
      {.name = "AlignmentOdd", .alignment = 4097, .message = "alignment 4097"},
      {.name = "SpaceMisaligned", .space_bytes = 4097, .message = "space of 4097"},
      {.name = "OffsetMisaligned", .in_use = {{1, 4096}}, .message = "used extent [1, +4096)"},
      {.name = "BytesMisaligned", .reserved = {{0, 1}}, .message = "reserved extent [0, +1)"},
      {.name = "Empty", .in_use = {{4096, 0}}, .message = "used extent [4096, +0)"},
      {.name = "BehindTheEnd", .in_use = {{65536, 4096}}, .message = "outside"},
      {.name = "OverTheEnd", .in_use = {{61440, 8192}}, .message = "outside"},
      {.name = "EndWrapsAround", .in_use = {{kMax - 4095, 8192}}, .message = "outside"},
      {.name = "BytesWrapAround", .in_use = {{4096, kMax - 4095}}, .message = "outside"},
      {.name = "UsedTwice", .in_use = {{0, 4096}, {0, 4096}}, .message = "used extent [0, +4096)"},
      {.name = "Overlap", .in_use = {{0, 8192}, {4096, 4096}}, .message = "used extent [4096,"},
      {.name = "OutOfOrder", .in_use = {{8192, 4096}, {0, 4096}}, .message = "used extent [0,"},
      {.name = "ReservedInUse",
       .reserved = {{4096, 4096}},
       .in_use = {{0, 8192}},
       .message = "reserved extent [4096,"},
      {.name = "UsedReserved",
       .reserved = {{0, 8192}},
       .in_use = {{4096, 4096}},
       .message = "used extent [4096,"},
  };
}

INSTANTIATE_TEST_SUITE_P(Bad, ExtentAllocatorCreateTest, testing::ValuesIn(BadSpaces()),
                         [](const auto& bad) { return bad.param.name; });

}  // namespace
}  // namespace cairn
