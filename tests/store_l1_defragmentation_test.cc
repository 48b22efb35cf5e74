// Moving tensors within L1 for long free runs, as a host sees it.

#include <gtest/gtest.h>

#include <atomic>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "tests/l1_fixture.h"

namespace cairn {
namespace {

constexpr uint64_t kBytes = 192 * kKiB;
constexpr uint64_t kLarge = 2 * kMiB;

class StoreL1DefragmentationTest : public L1Test {
 protected:
  StoreL1DefragmentationTest() {
    options_.l1_bytes_max = 16 * kMiB;
    options_.l2_bytes_max = 64 * kMiB;
    options_.l3_bytes_max = 128 * kMiB;
  }
  static std::string Key(int i) { return "tensor " + std::to_string(i); }

  // L1 full of tensors, of which every third is gone: enough is free and in pieces of one. Those
  // that lie together were not used together.
  void Fragment() {
    count_ = static_cast<int>(options_.l1_bytes_max / kBytes);
    for (int i = 0; i < count_; ++i) {
      ASSERT_TRUE(Put(Key(i), kBytes).ok()) << i;
      ASSERT_TRUE(GetInL1(Key(i)).ok()) << i;
    }
    for (int i = 0; i < count_; i += 3) {
      const absl::Status evicted = store_->Evict(Key(i), Level::kL2Pinned);
      ASSERT_TRUE(evicted.ok()) << evicted;
    }
    for (int i = 0; i < 2 * count_; ++i) {
      // A number without a common factor: all of them, in no order.
      const int chosen = i * 37 % count_;
      if (chosen % 3 != 0) ExpectInL1(Key(chosen), kBytes, Level::kL1Gpu);
    }
    ASSERT_TRUE(Put("large", kLarge).ok());
    ASSERT_LT(store_->Stats().l1.bytes_free_longest, kLarge);
  }
  int CountInL1() {
    int count = 0;
    for (int i = 0; i < count_; ++i) count += IsInL1(Key(i)) ? 1 : 0;
    return count;
  }

  int count_ = 0;
};

TEST_F(StoreL1DefragmentationTest, ALargeGetMovesOthersRatherThanPushingThemOut) {
  OpenL1();
  Fragment();
  const int before = CountInL1();
  const uint64_t evictions_before = store_->Stats().l1.evictions;
  ExpectInL1("large", kLarge, Level::kL2Pinned);
  const StatsSnapshot stats = store_->Stats();
  const TierStats& l1 = stats.l1;
  EXPECT_EQ(l1.windows_emptied, 1u);
  EXPECT_GT(l1.bytes_moved, 0u);
  EXPECT_LE(l1.bytes_moved, kLarge);
  EXPECT_GT(device_->copies_within, 0);
  EXPECT_EQ(stats.decisions[size_t(Decision::kMovedL1)],
            static_cast<uint64_t>(device_->copies_within));
  // Fewer than half of what lay in its place.
  const int gone = before - CountInL1();
  EXPECT_LE(gone, static_cast<int>(kLarge / kBytes / 2));
  EXPECT_EQ(l1.evictions - evictions_before, static_cast<uint64_t>(gone));
  for (int i = 0; i < count_; ++i) {
    ExpectInL1(Key(i), kBytes, IsInL1(Key(i)) ? Level::kL1Gpu : Level::kL2Pinned);
  }
}

TEST_F(StoreL1DefragmentationTest, WhatIsHeldStaysWhereItIs) {
  OpenL1();
  Fragment();
  std::vector<TensorHandle> handles;
  std::vector<const void*> places;
  for (int i = 1; i < count_; i += 3) {
    absl::StatusOr<TensorHandle> handle = GetInL1(Key(i));
    ASSERT_TRUE(handle.ok()) << handle.status();
    places.push_back(handle->view().data);
    handles.push_back(*std::move(handle));
  }
  ExpectStatus(GetInL1("large", absl::Milliseconds(200)).status(),
               absl::StatusCode::kResourceExhausted, "L1 is full");
  for (size_t i = 0; i < handles.size(); ++i) {
    EXPECT_EQ(handles[i].view().data, places[i]);
    EXPECT_TRUE(Matches(handles[i], Key(static_cast<int>(i) * 3 + 1), kBytes));
  }
}

// Every one is in L2 too: so it is let go, and none is lost.
TEST_F(StoreL1DefragmentationTest, WhatTheDeviceRefusesToCopyLeavesL1) {
  OpenL1();
  Fragment();
  device_->copies_to_refuse = 3;
  // The third may be its own.
  if (!GetInL1("large").ok()) ExpectInL1("large", kLarge, Level::kL2Pinned);
  EXPECT_EQ(device_->copies_to_refuse, 0);
  EXPECT_GE(store_->Stats().decisions[size_t(Decision::kClearedL1)], 2u);
  for (int i = 0; i < count_; ++i) {
    ExpectInL1(Key(i), kBytes, IsInL1(Key(i)) ? Level::kL1Gpu : Level::kL2Pinned);
  }
}

TEST_F(StoreL1DefragmentationTest, ReadersFindTheirBytesWhileOthersMove) {
  OpenL1(/*delay_us_max=*/200);
  Fragment();
  std::atomic<bool> stop = false;
  std::atomic<int> reads = 0;
  std::atomic<int> mismatches = 0;
  std::vector<std::thread> readers;
  for (int reader = 0; reader < 2; ++reader) {
    readers.emplace_back([&, reader] {
      std::mt19937_64 random(static_cast<uint64_t>(reader));
      while (!stop) {
        const std::string key = Key(static_cast<int>(random() % static_cast<uint64_t>(count_)));
        const absl::StatusOr<TensorHandle> handle = GetInL1(key);
        if (!handle.ok()) continue;
        if (!Matches(*handle, key, kBytes)) ++mismatches;
        ++reads;
      }
    });
  }
  for (int i = 0; i < 12; ++i) {
    const absl::StatusOr<TensorHandle> large = GetInL1("large");
    EXPECT_TRUE(large.ok()) << large.status();
    if (large.ok()) {
      EXPECT_TRUE(Matches(*large, "large", kLarge));
    }
    for (int j = i % 3; j < count_; j += 3) {
      // Pinned by a reader just now: it stays.
      store_->Evict(Key(j), Level::kL2Pinned).IgnoreError();
    }
    store_->Evict("large", Level::kL2Pinned).IgnoreError();
  }
  stop = true;
  for (std::thread& reader : readers) reader.join();
  EXPECT_EQ(mismatches, 0);
  EXPECT_GT(reads, 0);
  for (int i = 0; i < count_; ++i) Expect(Key(i), kBytes);
}

TEST_F(StoreL1DefragmentationTest, CanBeTurnedOff) {
  options_.unusable_share_max = 1;
  OpenL1();
  Fragment();
  ExpectInL1("large", kLarge, Level::kL2Pinned);
  EXPECT_EQ(store_->Stats().l1.bytes_moved, 0u);
}

// By a thread of its own, without a demand.
TEST_F(StoreL1DefragmentationTest, TidiesWhatIsOfNoUse) {
  options_.unusable_share_max = 0.01;
  OpenL1();
  ASSERT_TRUE(Put("large", kLarge).ok());
  // So that what is free is of no use for what came of late.
  for (int i = 0; i < 4; ++i) {
    ASSERT_TRUE(GetInL1("large").ok());
    ASSERT_TRUE(store_->Evict("large", Level::kL2Pinned).ok());
  }
  Fragment();
  // Nowhere so little lies before this that it would be moved without a demand.
  for (int i = 1; i < count_; i += 3) {
    // One that is being moved just now stays.
    store_->Evict(Key(i), Level::kL2Pinned).IgnoreError();
  }
  while (store_->Stats().l1.bytes_moved == 0) SleepFor(std::chrono::milliseconds(5));
  for (int i = 0; i < count_; ++i) Expect(Key(i), kBytes);
}

}  // namespace
}  // namespace cairn
