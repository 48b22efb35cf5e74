// Moving tensors within L2 for long free runs, as a host sees it.

#include <atomic>
#include <cstring>
#include <string>
#include <thread>
#include <vector>

#include "tests/store_fixture.h"

namespace cairn {
namespace {

constexpr uint64_t kBytes = 192 * kKiB;

class StoreDefragmentationTest : public StoreTest {
 protected:
  StoreDefragmentationTest() {
    options_.l2_bytes_max = 32 * kMiB;
    options_.l3_bytes_max = 256 * kMiB;
    options_.l2_allocator = AllocatorKind::kBestFit;
  }
  static std::string Key(int i) { return "tensor " + std::to_string(i); }

  // L2 full of tensors, of which every third is gone: enough is free and in pieces of one. Those
  // that lie together were not used together.
  void Fragment() {
    count_ = static_cast<int>(options_.l2_bytes_max / kBytes);
    for (int i = 0; i < count_; ++i) {
      const absl::Status put = Put(Key(i), kBytes);
      ASSERT_TRUE(put.ok()) << put;
    }
    ASSERT_TRUE(store_->Flush().ok());
    for (int i = 0; i < count_; i += 3) {
      const absl::Status evicted = store_->Evict(Key(i), Level::kL3Nvme);
      ASSERT_TRUE(evicted.ok()) << evicted;
    }
    for (int i = 0; i < 2 * count_; ++i) {
      // A number without a common factor: all of them, in no order.
      const int chosen = i * 37 % count_;
      if (chosen % 3 != 0) Expect(Key(chosen), kBytes);
    }
  }

  int count_ = 0;
};

TEST_F(StoreDefragmentationTest, ALargePutMovesOthersRatherThanPushingThemOut) {
  Open();
  Fragment();
  const StatsSnapshot before = store_->Stats();
  constexpr uint64_t kLarge = 4 * kMiB;
  ASSERT_LT(before.l2.bytes_free_longest, kLarge);
  ASSERT_GT(before.l2.bytes_max - before.l2.bytes_used, 2 * kLarge);
  ASSERT_TRUE(Put("large", kLarge).ok());
  const StatsSnapshot after = store_->Stats();
  EXPECT_EQ(after.l2.windows_emptied, before.l2.windows_emptied + 1);
  EXPECT_GT(after.l2.bytes_moved, 0u);
  EXPECT_LE(after.l2.bytes_moved, kLarge);
  // Fewer than half of what lay in its place.
  EXPECT_LE(after.l2.evictions - before.l2.evictions, kLarge / kBytes / 2);
  Expect("large", kLarge);
  for (int i = 0; i < count_; ++i) Expect(Key(i), kBytes);
}

TEST_F(StoreDefragmentationTest, WhatIsHeldStaysWhereItIs) {
  Open();
  Fragment();
  std::vector<TensorHandle> handles;
  std::vector<std::vector<std::byte>> contents;
  for (int i = 1; i < count_; i += 3) {
    absl::StatusOr<TensorHandle> handle = store_->Get(Key(i), {});
    ASSERT_TRUE(handle.ok()) << handle.status();
    handles.push_back(*std::move(handle));
    contents.push_back(ContentOf(Key(i), kBytes));
  }
  EXPECT_FALSE(
      store_
          ->Put("large", ViewOf(ContentOf("large", 4 * kMiB)), {.timeout = absl::Milliseconds(200)})
          .ok());
  for (size_t i = 0; i < handles.size(); ++i) {
    EXPECT_EQ(std::memcmp(handles[i].view().data, contents[i].data(), kBytes), 0);
  }
}

TEST_F(StoreDefragmentationTest, ReadersFindTheirBytesWhileOthersMove) {
  options_.l2_allocator = AllocatorKind::kHybrid;
  Open();
  Fragment();
  std::atomic<bool> stop = false;
  std::atomic<int> mismatches = 0;
  std::atomic<int> reads = 0;
  std::vector<std::vector<std::byte>> contents;
  for (int i = 0; i < count_; ++i) contents.push_back(ContentOf(Key(i), kBytes));
  std::vector<std::jthread> readers;
  for (int reader = 0; reader < 2; ++reader) {
    readers.emplace_back([&, reader] {
      std::mt19937_64 random(static_cast<uint64_t>(reader));
      while (!stop.load()) {
        const int i = static_cast<int>(random() % static_cast<uint64_t>(count_));
        const absl::StatusOr<TensorHandle> handle = store_->Get(Key(i), {});
        if (!handle.ok()) continue;  // No room before its deadline: a miss, no wrong byte.
        if (std::memcmp(handle->view().data, contents[static_cast<size_t>(i)].data(), kBytes) !=
            0) {
          ++mismatches;
        }
        ++reads;
      }
    });
  }
  constexpr uint64_t kLarge = 3 * kMiB;
  for (int i = 0; i < 12; ++i) {
    const absl::Status put = Put("large", kLarge, static_cast<uint64_t>(i));
    EXPECT_TRUE(put.ok()) << put;
    for (int j = i % 3; j < count_; j += 3) {
      // Pinned by a reader just now: it stays.
      store_->Evict(Key(j), Level::kL3Nvme).IgnoreError();
    }
  }
  stop = true;
  readers.clear();
  EXPECT_EQ(mismatches.load(), 0);
  EXPECT_GT(reads.load(), 0);
  EXPECT_GT(store_->Stats().l2.bytes_moved, 0u);
  for (int i = 0; i < count_; ++i) Expect(Key(i), kBytes);
}

TEST_F(StoreDefragmentationTest, CloseDoesNotWaitForAPacedPass) {
  options_.unusable_share_max = 0.01;
  options_.move_bytes_per_second = 1;
  Open();
  // So that what is free is of no use for what came of late.
  for (int i = 0; i < 4; ++i) {
    ASSERT_TRUE(Put("large", 3 * kMiB, static_cast<uint64_t>(i)).ok());
    ASSERT_TRUE(store_->Evict("large", Level::kL3Nvme).ok());
  }
  Fragment();
  // Nowhere so little lies before this that it would be moved without a demand.
  for (int i = 1; i < count_; i += 3) {
    ASSERT_TRUE(store_->Evict(Key(i), Level::kL3Nvme).ok());
  }
  const absl::Time until = absl::Now() + absl::Seconds(60);
  while (store_->Stats().l2.bytes_moved == 0 && absl::Now() < until) {
    absl::SleepFor(absl::Milliseconds(10));
  }
  EXPECT_GT(store_->Stats().l2.bytes_moved, 0u);
  Close();
  Open();
  for (int i = 0; i < count_; ++i) Expect(Key(i), kBytes);
}

TEST_F(StoreDefragmentationTest, CanBeTurnedOff) {
  options_.unusable_share_max = 1;
  Open();
  Fragment();
  ASSERT_TRUE(Put("large", 4 * kMiB).ok());
  EXPECT_EQ(store_->Stats().l2.bytes_moved, 0u);
}

TEST_F(StoreDefragmentationTest, RefusesAShareThatCannotBe) {
  for (const double share : {0.0, -1.0, 1.5}) {
    options_.unusable_share_max = share;
    ExpectStatus(OpenStore(options_, {}).status(), absl::StatusCode::kInvalidArgument,
                 "unusable_share_max");
  }
  options_.unusable_share_max = 0.3;
  options_.move_bytes_per_second = 0;
  ExpectStatus(OpenStore(options_, {}).status(), absl::StatusCode::kInvalidArgument,
               "move_bytes_per_second");
}

}  // namespace
}  // namespace cairn
