// Moving tensors within L3 for long free runs, as a host sees it.

#include <algorithm>
#include <atomic>
#include <cstring>
#include <filesystem>
#include <string>
#include <thread>
#include <vector>

#include "tests/l3_defragmentation_fixture.h"

namespace cairn {
namespace {

constexpr PutOptions kCached = {.durability = Durability::kOnDevice};

class StoreL3DefragmentationTest : public L3DefragmentationTest {};

TEST_F(StoreL3DefragmentationTest, ALargePutFindsRoomAmongWhatIsToBeKept) {
  OpenQuiet();
  Fragment();
  const StatsSnapshot before = store_->Stats();
  ASSERT_LT(before.l3.bytes_free_longest, kLarge);
  ASSERT_GT(before.l3.bytes_max - before.l3.bytes_used, 2 * kLarge);
  const absl::Status put = Put("large", kLarge, 0, kKept);
  ASSERT_TRUE(put.ok()) << put;
  const StatsSnapshot after = store_->Stats();
  EXPECT_EQ(after.l3.windows_emptied, 1u);
  EXPECT_GT(after.l3.bytes_moved, 0u);
  EXPECT_LE(after.l3.bytes_moved, kLarge + 8 * kKiB);
  EXPECT_EQ(after.l3.evictions, 0u);
  EXPECT_EQ(after.spill_failures, 0u);
  EXPECT_EQ(after.l3.tensors, before.l3.tensors + 1);
  const uint64_t moved = Moved();
  EXPECT_GT(moved, 0u);
  // What is moved is written.
  EXPECT_EQ(after.l3.bytes_written - before.l3.bytes_written, kLarge + moved * kBytes);
  Expect("large", kLarge);
  ExpectAllAfterReopen();
  Expect("large", kLarge);
}

TEST_F(StoreL3DefragmentationTest, AThreadMakesUsableWhatIsFreeInPieces) {
  OpenBusy();
  Fragment();
  const double unusable = store_->Stats().l3.free_share_unusable;
  while (store_->Stats().l3.free_share_unusable > unusable * 3 / 4) {
    SleepFor(std::chrono::milliseconds(5));
  }
  const StatsSnapshot after = store_->Stats();
  EXPECT_GT(after.l3.windows_emptied, 0u);
  EXPECT_GT(after.l3.bytes_emptied, 0u);
  EXPECT_GT(after.l3.bytes_free_longest, kLarge);
  ExpectAllAfterReopen();
}

TEST_F(StoreL3DefragmentationTest, AttributesAndTheCopyInL2Stay) {
  options_.l2_bytes_max = 64 * kMiB;
  OpenQuiet();
  PutOptions put = kKept;
  put.ttl = absl::Hours(1);
  put.tensor_class = TensorClass::kVision;
  Fragment(put);
  std::vector<TensorInfo> before;
  for (int i = 0; i < count_; ++i) {
    before.push_back(store_->Describe(Key(i)).value_or(TensorInfo()));
  }
  ASSERT_TRUE(Put("large", kLarge, 0, kKept).ok());
  ASSERT_GT(Moved(), 0u);
  for (int i = 0; i < count_; ++i) {
    if (!IsThere(i)) continue;
    const absl::StatusOr<TensorInfo> after = store_->Describe(Key(i));
    ASSERT_TRUE(after.ok());
    const TensorInfo& was = before[static_cast<size_t>(i)];
    EXPECT_EQ(after->retention, Retention::kKeep);
    EXPECT_EQ(after->tensor_class, TensorClass::kVision);
    EXPECT_EQ(after->expires, was.expires);
    EXPECT_TRUE(after->in_l3);
    EXPECT_TRUE(was.in_l2);
    EXPECT_TRUE(after->in_l2);
    const absl::StatusOr<TensorHandle> handle = store_->Get(Key(i), {});
    ASSERT_TRUE(handle.ok());
    EXPECT_EQ(handle->found_at(), Level::kL2Pinned);
  }
  ExpectAllAfterReopen();
}

TEST_F(StoreL3DefragmentationTest, WhatIsHeldStaysWhereItIs) {
  options_.l2_bytes_max = 64 * kMiB;
  OpenQuiet();
  Fragment();
  std::vector<TensorHandle> handles;
  for (int i = 0; i < count_; ++i) {
    if (IsThere(i)) handles.push_back(*store_->Get(Key(i), {}));
  }
  PutOptions put = kKept;
  put.timeout = absl::Milliseconds(300);
  ExpectStatus(Put("large", kLarge, 0, put), absl::StatusCode::kResourceExhausted, "L3 is full");
  EXPECT_EQ(Moved(), 0u);
  handles.clear();
  EXPECT_TRUE(Put("large", kLarge, 0, kKept).ok());
  ExpectAllAfterReopen();
}

TEST_F(StoreL3DefragmentationTest, ReadersFindTheirBytesWhileOthersMove) {
  OpenBusy();
  Fragment();
  std::atomic<bool> stop = false;
  std::atomic<int> mismatches = 0;
  std::atomic<int> misses = 0;
  std::vector<std::thread> readers;
  for (int reader = 0; reader < 2; ++reader) {
    readers.emplace_back([&, reader] {
      std::mt19937_64 random(static_cast<uint64_t>(reader));
      while (!stop) {
        const int i = static_cast<int>(random() % static_cast<uint64_t>(count_));
        if (!IsThere(i)) continue;
        const absl::StatusOr<TensorHandle> handle = store_->Get(Key(i), {});
        if (!handle.ok()) {
          ++misses;
          continue;
        }
        const std::vector<std::byte> expected = ContentOf(Key(i), kBytes);
        if (std::memcmp(handle->view().data, expected.data(), kBytes) != 0) ++mismatches;
      }
    });
  }
  AwaitMoves(5);
  stop = true;
  for (std::thread& reader : readers) reader.join();
  EXPECT_EQ(mismatches, 0);
  EXPECT_EQ(misses, 0);
  ExpectAllAfterReopen();
}

// What was put first leaves first, whether it has been moved since or not.
TEST_F(StoreL3DefragmentationTest, AMoveIsNoUse) {
  options_.eviction = EvictionKind::kLru;
  FragmentCached(/*every=*/3);
  ASSERT_TRUE(Put("large", kLarge, 0, kKept).ok());
  ASSERT_GT(Moved(), 0u);
  EXPECT_EQ(store_->Stats().l3.evictions, 0u);
  const uint64_t moved = Moved();
  int gone = -1;
  for (int i = 0; gone < count_ * 2 / 3; ++i) {
    ASSERT_TRUE(Put(absl::StrCat("new ", i), kBytes, 0, kCached).ok());
    bool left = false;
    for (int j = 0; j < count_; ++j) {
      if (j % 3 == 0) continue;
      const bool there = store_->Describe(Key(j)).ok();
      if (!there) gone = std::max(gone, j);
      left |= there;
      // None that is older than one that has left.
      EXPECT_FALSE(there && j < gone) << j << " outlived " << gone;
    }
    ASSERT_TRUE(left);
  }
  EXPECT_EQ(Moved(), moved);
}

TEST_F(StoreL3DefragmentationTest, WhatIsColdIsLetGoWhereLittleIsFree) {
  options_.l3_bytes_max = 128 * kMiB;
  options_.eviction = EvictionKind::kLru;
  FragmentCached(/*every=*/7);
  const StatsSnapshot before = store_->Stats();
  ASSERT_LT((before.l3.bytes_max - before.l3.bytes_used) * 8, before.l3.bytes_max);
  ASSERT_TRUE(Put("large", kLarge, 0, kKept).ok());
  const StatsSnapshot after = store_->Stats();
  EXPECT_EQ(after.l3.windows_emptied, 1u);
  EXPECT_GT(Moved() + after.decisions[size_t(Decision::kClearedL3)], 0u);
  uint64_t left = 0;
  for (int i = 0; i < count_; ++i) {
    if (i % 7 == 0) continue;
    if (store_->Describe(Key(i)).ok()) {
      Expect(Key(i), kBytes);
    } else {
      ++left;
    }
  }
  EXPECT_EQ(left, after.l3.evictions);
  EXPECT_EQ(left, after.decisions[size_t(Decision::kClearedL3)]);
}

TEST_F(StoreL3DefragmentationTest, WhatIsMovedStaysOnItsDrive) {
  const std::filesystem::path drives = temporary_ / "drives";
  for (const char* const name : {"a", "b"}) {
    std::filesystem::create_directories(drives / name);
    options_.data_paths.push_back((drives / name).string());
  }
  options_.l3_bytes_max = 72 * kMiB;
  OpenBusy();
  Fragment();
  const std::vector<DriveStats> before = store_->Stats().drives;
  AwaitMoves(4);
  store_->Stats();
  // What is under way is on two places.
  const uint64_t window = 2 * (kBytes + 8 * kKiB);
  const std::vector<DriveStats> after = store_->Stats().drives;
  ASSERT_EQ(after.size(), 2u);
  for (size_t i = 0; i < 2; ++i) {
    EXPECT_LE(after[i].bytes_used, before[i].bytes_used + window);
    EXPECT_GE(after[i].bytes_used + window, before[i].bytes_used);
  }
  ExpectAllAfterReopen();
}

TEST_F(StoreL3DefragmentationTest, ABudgetThatIsSpentMovesNothing) {
  options_.l3_write_bytes_per_day = 1;
  OpenQuiet();
  Fragment();
  PutOptions put = kKept;
  put.timeout = absl::Milliseconds(300);
  EXPECT_FALSE(Put("large", kLarge, 0, put).ok());
  EXPECT_EQ(Moved(), 0u);
  EXPECT_EQ(store_->Stats().l3.bytes_moved, 0u);
  ExpectAll();
}

}  // namespace
}  // namespace cairn
