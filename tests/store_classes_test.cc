// What each class of tensors is sure of in a tier, and how a tier divides itself between them.

#include <gtest/gtest.h>

#include <string>

#include "nlohmann/json.hpp"
#include "tests/store_fixture.h"

namespace cairn {
namespace {

constexpr uint64_t kTensorBytes = 256 * kKiB;

class StoreClassesTest : public StoreTest {
 protected:
  StoreClassesTest() {
    options_.l3_write_bytes_per_day = StoreOptions::kL3WritesUnlimited;
    options_.l2_bytes_max = 16 * kMiB;
    options_.l3_bytes_max = 64 * kMiB;
    options_.heed_memory_pressure = false;
  }

  static std::string KeyOf(TensorClass tensor_class, int number) {
    return std::string(TensorClassName(tensor_class)) + std::to_string(number);
  }
  void PutOf(TensorClass tensor_class, int number) {
    const std::string key = KeyOf(tensor_class, number);
    const std::vector<std::byte> bytes = ContentOf(key, kTensorBytes);
    const absl::Status status = store_->Put(key, ViewOf(bytes), {.tensor_class = tensor_class});
    ASSERT_TRUE(status.ok()) << status;
  }
  // So many of a class, one after the other, each on L3 before the next but seven.
  void PutMany(TensorClass tensor_class, int begin, int end) {
    for (int i = begin; i < end; ++i) {
      PutOf(tensor_class, i);
      if (i % 8 == 0) {
        ASSERT_TRUE(store_->Flush().ok());
      }
    }
    ASSERT_TRUE(store_->Flush().ok());
  }
  static const ClassStats& Of(const TierStats& tier, TensorClass tensor_class) {
    return tier.classes[static_cast<size_t>(tensor_class)];
  }
  static double ShareOf(const TierStats& tier, TensorClass tensor_class) {
    return static_cast<double>(Of(tier, tensor_class).bytes) / static_cast<double>(tier.bytes_max);
  }
  // Of a store that is closed: till then L3 is kept ahead of demand, and who evicts counts for the
  // tier a moment later.
  static void ExpectTheyAddUp(const TierStats& tier) {
    ClassStats sum;
    for (const ClassStats& one : tier.classes) {
      sum.tensors += one.tensors;
      sum.hits += one.hits;
      sum.evictions += one.evictions;
    }
    EXPECT_EQ(sum.tensors, tier.tensors);
    EXPECT_EQ(sum.hits, tier.hits);
    EXPECT_EQ(sum.evictions, tier.evictions);
  }
};

TEST_F(StoreClassesTest, AMinimumIsKeptUnderAFloodOfAnotherClass) {
  options_.l2_class_shares.vision.min = 0.7;
  options_.l3_class_shares.vision.min = 0.7;
  Open();
  PutMany(TensorClass::kVision, 0, 300);
  PutMany(TensorClass::kKv, 0, 400);
  const StatsSnapshot stats = store_->Stats();
  EXPECT_GE(ShareOf(stats.l3, TensorClass::kVision), 0.7);
  EXPECT_GE(ShareOf(stats.l2, TensorClass::kVision), 0.7);
  EXPECT_GT(Of(stats.l3, TensorClass::kKv).evictions, 0);
  EXPECT_GT(Of(stats.l2, TensorClass::kKv).evictions, 0);
  ASSERT_TRUE(store_->Close().ok());
  ExpectTheyAddUp(store_->Stats().l2);
  ExpectTheyAddUp(store_->Stats().l3);
}

// What the minimum changes: neither class is hit, so both get the same.
TEST_F(StoreClassesTest, WithoutAMinimumAFloodTakesIt) {
  Open();
  PutMany(TensorClass::kVision, 0, 300);
  PutMany(TensorClass::kKv, 0, 600);
  const StatsSnapshot stats = store_->Stats();
  EXPECT_LT(ShareOf(stats.l3, TensorClass::kVision), 0.65);
  EXPECT_LT(ShareOf(stats.l2, TensorClass::kVision), 0.65);
}

TEST_F(StoreClassesTest, RoomThatIsIdleIsUsedByOthers) {
  options_.l2_class_shares = {.kv = {.max = 0.25}, .vision = {.min = 0.5}};
  options_.l3_class_shares = {.kv = {.max = 0.25}, .vision = {.min = 0.5}};
  Open();
  PutMany(TensorClass::kKv, 0, 300);
  EXPECT_GT(ShareOf(store_->Stats().l2, TensorClass::kKv), 0.8);
  EXPECT_GT(ShareOf(store_->Stats().l3, TensorClass::kKv), 0.8);
}

TEST_F(StoreClassesTest, WhatIsOverAMaximumLeavesFirst) {
  options_.l2_class_shares.kv.max = 0.25;
  options_.l3_class_shares.kv.max = 0.25;
  Open();
  PutMany(TensorClass::kKv, 0, 300);
  PutMany(TensorClass::kText, 0, 300);
  // Both want room: the newer KV tensors leave before any text does.
  const uint64_t text_evictions = Of(store_->Stats().l3, TensorClass::kText).evictions;
  PutMany(TensorClass::kKv, 300, 400);
  const StatsSnapshot stats = store_->Stats();
  EXPECT_LE(ShareOf(stats.l3, TensorClass::kKv), 0.25 + 0.05);
  EXPECT_LE(ShareOf(stats.l2, TensorClass::kKv), 0.25 + 0.05);
  EXPECT_GT(ShareOf(stats.l3, TensorClass::kText), 0.6);
  EXPECT_LT(Of(stats.l3, TensorClass::kText).evictions, text_evictions + 20);
}

TEST_F(StoreClassesTest, ARestartKeepsThem) {
  options_.l3_class_shares.vision.min = 0.7;
  Open();
  PutMany(TensorClass::kVision, 0, 300);
  PutMany(TensorClass::kKv, 0, 200);
  ASSERT_TRUE(store_->Close().ok());
  const uint64_t vision_bytes = Of(store_->Stats().l3, TensorClass::kVision).bytes;
  store_.reset();
  Open();
  EXPECT_EQ(Of(store_->Stats().l3, TensorClass::kVision).bytes, vision_bytes);
  PutMany(TensorClass::kKv, 200, 500);
  EXPECT_GE(ShareOf(store_->Stats().l3, TensorClass::kVision), 0.7);
  EXPECT_GT(store_->Stats().l3.evictions, 0);
  ASSERT_TRUE(store_->Close().ok());
  ExpectTheyAddUp(store_->Stats().l3);
}

// A minimum is no reason to refuse what fits otherwise.
TEST_F(StoreClassesTest, AMinimumYieldsToATensorThatFindsNoOtherRoom) {
  options_.l2_class_shares.vision.min = 0.9;
  Open();
  PutMany(TensorClass::kVision, 0, 64);
  const std::vector<std::byte> large = ContentOf("large", 4 * kMiB);
  EXPECT_TRUE(store_->Put("large", ViewOf(large), {.tensor_class = TensorClass::kKv}).ok());
  EXPECT_LT(ShareOf(store_->Stats().l2, TensorClass::kVision), 0.9);
}

// What all is held of one class is no reason to look for room nowhere else.
TEST_F(StoreClassesTest, AClassThatIsHeldDoesNotHideTheOthers) {
  Open();
  PutMany(TensorClass::kKv, 0, 24);
  PutMany(TensorClass::kText, 0, 24);
  // KV is far over its part, and all of it is held.
  PutMany(TensorClass::kText, 24, 28);
  std::vector<TensorHandle> held;
  for (int i = 0; i < 24; ++i) held.push_back(*store_->Get(KeyOf(TensorClass::kKv, i), {}));
  for (int i = 28; i < 160; ++i) {
    const std::string key = KeyOf(TensorClass::kVision, i);
    const absl::Status status =
        store_->Put(key, ViewOf(ContentOf(key, kTensorBytes)),
                    {.durability = Durability::kOnDevice, .tensor_class = TensorClass::kVision});
    ASSERT_TRUE(status.ok()) << status;
  }
  EXPECT_GT(Of(store_->Stats().l2, TensorClass::kText).evictions, 0);
  EXPECT_EQ(Of(store_->Stats().l2, TensorClass::kKv).evictions, 0);
}

TEST_F(StoreClassesTest, StatsSayWhatEachClassHas) {
  Open();
  PutMany(TensorClass::kVision, 0, 3);
  PutMany(TensorClass::kText, 0, 2);
  ASSERT_TRUE(store_->Get(KeyOf(TensorClass::kVision, 1), {}).ok());
  ASSERT_TRUE(store_->Evict(KeyOf(TensorClass::kText, 1), Level::kL3Nvme).ok());
  ASSERT_TRUE(store_->Get(KeyOf(TensorClass::kText, 1), {}).ok());
  const StatsSnapshot stats = store_->Stats();
  EXPECT_EQ(Of(stats.l2, TensorClass::kVision).bytes, 3 * kTensorBytes);
  EXPECT_EQ(Of(stats.l2, TensorClass::kVision).hits, 1);
  EXPECT_EQ(Of(stats.l3, TensorClass::kText).hits, 1);
  EXPECT_EQ(Of(stats.l3, TensorClass::kText).tensors, 2);
  EXPECT_EQ(Of(stats.l3, TensorClass::kKv).tensors, 0);
  ExpectTheyAddUp(stats.l2);
  ExpectTheyAddUp(stats.l3);
  const auto json = nlohmann::json::parse(stats.ToJson());
  EXPECT_EQ(json["l3"]["classes"]["vision"]["bytes"], 3 * kTensorBytes);
  EXPECT_EQ(json["l3"]["classes"]["text"]["hits"], 1);
}

TEST_F(StoreClassesTest, SharesThatCannotBeAreRefused) {
  const auto refused = [this](const ClassShares& shares) {
    options_.l3_class_shares = shares;
    return absl::IsInvalidArgument(options_.Validate());
  };
  EXPECT_FALSE(refused({}));
  EXPECT_FALSE(refused({.kv = {.min = 0.3}, .vision = {.min = 0.6}}));
  EXPECT_TRUE(refused({.kv = {.min = 0.5}, .vision = {.min = 0.5}}));
  EXPECT_TRUE(refused({.kv = {.min = 0.5, .max = 0.4}}));
  EXPECT_TRUE(refused({.kv = {.min = -0.1}}));
  EXPECT_TRUE(refused({.kv = {.max = 1.1}}));
  EXPECT_TRUE(refused({.general = {0, 0.2}, .kv = {0, 0.2}, .vision = {0, 0.2}, .text = {0, 0.2}}));
}

}  // namespace
}  // namespace cairn
