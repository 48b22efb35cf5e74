// A store whose L3 is full of what is still being written to it.

#include <gtest/gtest.h>

#include <string>
#include <thread>

#include "absl/strings/str_cat.h"
#include "tests/disk_fixture.h"
#include "tests/manual_io.h"
#include "tests/store_fixture.h"

namespace cairn {
namespace {

using absl::StatusCode;

// What came first leaves first.
class StoreFullOfWritesTest : public StoreTest {
 protected:
  StoreFullOfWritesTest() {
    options_.eviction = EvictionKind::kLru;
    options_.l2_bytes_max = 128 * kMiB;
    options_.l2_dirty_share_max = 1;
  }
  void OpenManually() { Open(WrappedIn(&io_)); }
  // Until one finds no room; it waits for none, as no write ends.
  int PutUntilFull(uint64_t size = kMiB) {
    int count = 0;
    while (Put(Key(count), size, 0, {.timeout = absl::Milliseconds(20)}).ok()) ++count;
    return count;
  }
  bool Has(std::string_view key) const { return store_->Describe(key).ok(); }
  static std::string Key(int number) { return absl::StrCat("k", number); }

  ManualIo* io_ = nullptr;
};

TEST_F(StoreFullOfWritesTest, WhatIsColdestLeavesThoughItIsStillBeingWritten) {
  OpenManually();
  const int count = PutUntilFull();
  EXPECT_GT(count, 30);
  ExpectStatus(GetStatus(Key(0)), StatusCode::kNotFound, Key(0));
  Expect(Key(count - 1), kMiB);
  // No place is used twice before its first write has ended.
  EXPECT_LE(store_->Stats().l3.bytes_used, store_->Stats().l3.bytes_max);
  io_->Release();
  ASSERT_TRUE(store_->Flush().ok());
  // Nor is it written for nothing.
  EXPECT_EQ(store_->Stats().l3.bytes_written, store_->Stats().l3.tensors * kMiB);
  for (int i = count; i < 3 * count; ++i) ASSERT_TRUE(Put(Key(i), kMiB).ok()) << i;
  ASSERT_TRUE(store_->Flush().ok());
  EXPECT_GT(store_->Stats().l3.tensors, 30u);
  const uint64_t tensors = store_->Stats().l3.tensors;
  EXPECT_EQ(store_->Stats().l3.bytes_used, tensors * (kMiB + 4 * kKiB));
  EXPECT_LE(BytesOnDisk(directory_), options_.l3_bytes_max);
  // Nor does it come back.
  Reopen();
  EXPECT_EQ(store_->Stats().l3.tensors, tensors);
  for (int i = 0; i < 2 * count; ++i) {
    if (Has(Key(i))) Expect(Key(i), kMiB);
  }
  ExpectStatus(GetStatus(Key(0)), StatusCode::kNotFound, Key(0));
  Expect(Key(3 * count - 1), kMiB);
}

// They are written with the others, and not found for all that.
TEST_F(StoreFullOfWritesTest, ThoseInPacksLeaveToo) {
  constexpr uint64_t kSmall = 20 * kKiB;
  OpenManually();
  const int count = PutUntilFull(kSmall);
  EXPECT_GT(count, 1000);
  ExpectStatus(GetStatus(Key(0)), StatusCode::kNotFound, Key(0));
  Expect(Key(count - 1), kSmall);
  io_->Release();
  for (int i = count; i < 3 * count; ++i) ASSERT_TRUE(Put(Key(i), kSmall).ok()) << i;
  ASSERT_TRUE(store_->Flush().ok());
  EXPECT_LE(BytesOnDisk(directory_), options_.l3_bytes_max);
  const uint64_t tensors = store_->Stats().l3.tensors;
  EXPECT_GT(tensors, 1000u);
  Reopen();
  EXPECT_EQ(store_->Stats().l3.tensors, tensors);
  ExpectStatus(GetStatus(Key(0)), StatusCode::kNotFound, Key(0));
  for (int i = 0; i < 3 * count; ++i) {
    if (Has(Key(i))) Expect(Key(i), kSmall);
  }
}

TEST_F(StoreFullOfWritesTest, WhatIsWaitedForStays) {
  OpenManually();
  absl::Status promised;
  std::thread writer(
      [&] { promised = Put("promised", kMiB, 0, {.durability = Durability::kOnDevice}); });
  io_->WaitForPending(1);
  PutUntilFull();
  EXPECT_TRUE(Has("promised"));
  io_->Release();
  writer.join();
  EXPECT_TRUE(promised.ok()) << promised;
  Expect("promised", kMiB);
}

// Else a crash would bring the older value back.
TEST_F(StoreFullOfWritesTest, WhatReplacesAnotherStaysUntilItHas) {
  Open();
  ASSERT_TRUE(Put("k", kMiB, 1, {.durability = Durability::kOnDevice}).ok());
  Close();
  OpenManually();
  ASSERT_TRUE(Put("k", kMiB, 2).ok());
  PutUntilFull();
  Expect("k", kMiB, 2);
  io_->Release();
  ASSERT_TRUE(store_->Flush().ok());
  Expect("k", kMiB, 2);
}

// Its room is to be had again, and the store says what happened.
TEST_F(StoreFullOfWritesTest, AWriteThatFailsAfterItsTensorLeftLeaksNothing) {
  OpenManually();
  const int count = PutUntilFull();
  ASSERT_FALSE(Has(Key(0)));
  // Its payload's and its header's.
  io_->Complete(0, absl::ResourceExhaustedError("no space"));
  io_->Release();
  for (int i = 0; i < 2 * count; ++i) ASSERT_TRUE(Put(Key(i), kMiB).ok()) << i;
  EXPECT_FALSE(store_->Flush().ok());
  EXPECT_TRUE(store_->Flush().ok());
  const StatsSnapshot stats = store_->Stats();
  EXPECT_EQ(stats.l3.bytes_used, stats.l3.tensors * (kMiB + 4 * kKiB));
}

}  // namespace
}  // namespace cairn
