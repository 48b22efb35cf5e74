// PutOptions::recompute_cost: what takes longer to compute stays longer, in every tier and over
// restarts.

#include <gtest/gtest.h>

#include <filesystem>
#include <string>

#include "tests/store_fixture.h"

namespace cairn {
namespace {

constexpr uint64_t kTensorBytes = 256 * kKiB;
// Four times what a tensor of this size counts as where nobody says.
constexpr absl::Duration kDear = absl::Nanoseconds(4 * kTensorBytes);
constexpr int kDearTensors = 30;

class StoreRecomputeCostTest : public StoreTest {
 protected:
  StoreRecomputeCostTest() {
    options_.l3_write_bytes_per_day = StoreOptions::kL3WritesUnlimited;
    options_.l2_bytes_max = 16 * kMiB;
    options_.l3_bytes_max = 64 * kMiB;
    options_.heed_memory_pressure = false;
  }

  void PutMany(const std::string& name, int begin, int end, const PutOptions& options) {
    for (int i = begin; i < end; ++i) {
      const absl::Status status = Put(name + std::to_string(i), kTensorBytes, 0, options);
      ASSERT_TRUE(status.ok()) << status;
      if (i % 8 == 0) {
        ASSERT_TRUE(store_->Flush().ok());
      }
    }
    ASSERT_TRUE(store_->Flush().ok());
  }
  // How many are there, and where, at least, without a use of them.
  int CountOf(const std::string& name, int count, Level level) {
    int there = 0;
    for (int i = 0; i < count; ++i) {
      const absl::StatusOr<TensorInfo> info = store_->Describe(name + std::to_string(i));
      if (info.ok() && (level == Level::kL3Nvme ? info->in_l3 : info->in_l2)) ++there;
    }
    return there;
  }
};

TEST_F(StoreRecomputeCostTest, WhatIsDearOutstaysAFlood) {
  Open();
  PutMany("dear", 0, kDearTensors, {.recompute_cost = kDear});
  // L2 has room for 64, L3 for some 200.
  PutMany("first", 0, 40, {});
  EXPECT_EQ(CountOf("dear", kDearTensors, Level::kL2Pinned), kDearTensors);
  PutMany("flood", 0, 300, {});
  EXPECT_EQ(CountOf("dear", kDearTensors, Level::kL3Nvme), kDearTensors);
  EXPECT_EQ(CountOf("first", 40, Level::kL3Nvme), 0);
  // But not for ever.
  PutMany("second flood", 0, 1200, {});
  EXPECT_EQ(CountOf("dear", kDearTensors, Level::kL3Nvme), 0);
}

TEST_F(StoreRecomputeCostTest, IsKnownAfterARestart) {
  Open();
  PutMany("dear", 0, kDearTensors, {.recompute_cost = kDear});
  Reopen();
  PutMany("flood", 0, 300, {});
  EXPECT_EQ(CountOf("dear", kDearTensors, Level::kL3Nvme), kDearTensors);
}

// It is in the index: the file of the order of eviction is a hint, and a store that was killed
// early has none.
TEST_F(StoreRecomputeCostTest, IsKnownAfterARestartWithoutTheOrderOfEviction) {
  Open();
  PutMany("dear", 0, kDearTensors, {.recompute_cost = kDear});
  PutMany("small", 0, 8, {.recompute_cost = kDear});
  Close();
  std::filesystem::remove(directory_ / "eviction");
  Open();
  PutMany("flood", 0, 300, {});
  EXPECT_EQ(CountOf("dear", kDearTensors, Level::kL3Nvme), kDearTensors);
}

TEST_F(StoreRecomputeCostTest, ANegativeCostIsRefused) {
  Open();
  ExpectStatus(Put("a", kTensorBytes, 0, {.recompute_cost = -absl::Nanoseconds(1)}),
               absl::StatusCode::kInvalidArgument, "its cost of recomputing is negative");
  EXPECT_TRUE(Put("a", kTensorBytes, 0, {.recompute_cost = absl::InfiniteDuration()}).ok());
  Expect("a", kTensorBytes);
}

}  // namespace
}  // namespace cairn
