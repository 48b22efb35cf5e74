// StoreOptions::prefetch_predicted: what nobody named is there before it is asked for.

#include <gtest/gtest.h>

#include <atomic>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "tests/manual_io.h"
#include "tests/store_fixture.h"

namespace cairn {
namespace {

class StorePredictionTest : public StoreTest {
 protected:
  StorePredictionTest() {
    options_.l2_bytes_max = 32 * kMiB;
    options_.l3_bytes_max = 64 * kMiB;
    options_.prefetch_ahead_bytes_max = 16 * kMiB;
  }
  // Tensors of a MiB that L3 alone has, whose names tell nothing of their order.
  void OpenWith(int count, StoreSeams seams = {}) {
    Open();
    for (int i = 0; i < count; ++i) ASSERT_TRUE(Put(Key(i), kMiB, 0).ok());
    ASSERT_TRUE(store_->Flush().ok());
    Close();
    options_.prefetch_predicted = true;
    Open(std::move(seams));
  }
  static std::string Key(int number) { return absl::StrCat(number * 7919 % 101, "-block"); }
  // As a host looks a prompt up: the store knows their order from here on.
  void Name(const std::vector<int>& numbers) {
    std::vector<std::string> names;
    for (const int number : numbers) names.push_back(Key(number));
    const std::vector<TensorKey> keys(names.begin(), names.end());
    ASSERT_TRUE(store_->CountLeading(keys, {}).ok());
  }
  void Forget(int count) {
    for (int i = 0; i < count; ++i) {
      ASSERT_TRUE(store_->Evict(Key(i), Level::kL3Nvme).ok()) << i;
    }
  }
  bool InL2(int number) const { return store_->Describe(Key(number))->in_l2; }
  void WaitUntilInL2(int number) const {
    while (!InL2(number)) std::this_thread::yield();
  }
  // One is counted when it has begun, by then it may be there.
  void WaitForPredictions(uint64_t count) const {
    while (store_->Stats().predictions < count) std::this_thread::yield();
  }
};

TEST_F(StorePredictionTest, WhatFollowedFollowsAgain) {
  OpenWith(5);
  for (int i = 0; i < 5; ++i) Expect(Key(i), kMiB);
  EXPECT_EQ(store_->Stats().predictions, 0u);
  Forget(5);
  Expect(Key(0), kMiB);
  for (int i = 1; i < 5; ++i) WaitUntilInL2(i);
  WaitForPredictions(4);
  for (int i = 1; i < 5; ++i) Expect(Key(i), kMiB);
  const StatsSnapshot stats = store_->Stats();
  EXPECT_EQ(stats.predictions, 4u);
  EXPECT_EQ(stats.predictions_used, 4u);
  EXPECT_EQ(stats.predictions_unused, 0u);
  EXPECT_EQ(stats.prefetches, 0u) << "nobody asked for one";
  EXPECT_EQ(stats.prefetches_used, 0u);
  EXPECT_EQ(stats.fills, 5u + 5u) << "nothing is read twice";
}

TEST_F(StorePredictionTest, AReaderIsFollowedByEight) {
  ManualIo* io = nullptr;
  OpenWith(20, WrappedIn(&io));
  std::vector<int> all;
  for (int i = 0; i < 20; ++i) all.push_back(i);
  Name(all);
  std::thread reader([this] { Expect(Key(0), kMiB); });
  io->WaitForPending(1 + 8);
  // The demand was first, and is the only one with its urgency.
  EXPECT_EQ(io->op(0).priority, IoPriority::kDemandRead);
  for (size_t i = 1; i < 9; ++i) EXPECT_EQ(io->op(i).priority, IoPriority::kPrefetch);
  EXPECT_EQ(io->pending(), 9u);
  io->CompleteAll();
  reader.join();
  EXPECT_TRUE(InL2(8));
  EXPECT_FALSE(InL2(9));
  Expect(Key(1), kMiB);
  EXPECT_EQ(io->pending(), 1u);
  io->Release();
  WaitUntilInL2(9);
}

TEST_F(StorePredictionTest, HintsGoFirst) {
  options_.prefetch_ahead_bytes_max = 2 * kMiB;
  ManualIo* io = nullptr;
  OpenWith(10, WrappedIn(&io));
  Name({0, 1, 2, 3});
  const std::vector<std::string> names = {Key(7), Key(8), Key(9)};
  const std::vector<TensorKey> hinted(names.begin(), names.end());
  ASSERT_TRUE(store_->WillNeed(hinted, {}).ok());
  ASSERT_EQ(io->pending(), 2u);
  std::thread reader([this] { Expect(Key(0), kMiB); });
  io->WaitForPending(3);
  // One hint waits for room, and so do all guesses.
  io->CompleteAll();
  reader.join();
  EXPECT_EQ(store_->Stats().predictions, 0u);
  Expect(Key(7), kMiB);
  while (!InL2(9)) io->CompleteAll();
  EXPECT_EQ(store_->Stats().prefetches, 3u);
  io->CompleteAll();
  EXPECT_GE(store_->Stats().predictions, 1u) << "now it is their turn";
  EXPECT_TRUE(InL2(1));
  io->Release();
}

TEST_F(StorePredictionTest, WhatIsReadElsewhereIsNotFollowedOn) {
  ManualIo* io = nullptr;
  options_.prefetch_ahead_bytes_max = 2 * kMiB;
  OpenWith(20, WrappedIn(&io));
  Name({0, 1, 2, 3, 4, 5});
  std::atomic<bool> ended = false;
  std::thread reader([this, &ended] {
    // There is room for one of five guesses.
    Expect(Key(0), kMiB);
    Expect(Key(10), kMiB);
    ended = true;
  });
  while (!ended) io->CompleteAll();
  reader.join();
  io->CompleteAll();
  const StatsSnapshot stats = store_->Stats();
  EXPECT_EQ(stats.predictions, 1u);
  EXPECT_EQ(stats.predictions_cancelled, 4u);
  EXPECT_TRUE(InL2(1));
  EXPECT_EQ(stats.fills, 3u);
  io->Release();
}

TEST_F(StorePredictionTest, NumbersThatRiseAreFollowedWhereNothingIsKnown) {
  options_.prefetch_predicted = true;
  Open();
  for (int i = 0; i < 12; ++i) ASSERT_TRUE(Put(absl::StrCat("layer.", i * 2), kMiB, 0).ok());
  ASSERT_TRUE(store_->Flush().ok());
  Close();
  Open();
  for (int i = 0; i < 3; ++i) Expect(absl::StrCat("layer.", i * 2), kMiB);
  while (!store_->Describe("layer.20")->in_l2) std::this_thread::yield();
  EXPECT_FALSE(store_->Describe("layer.22")->in_l2);
  WaitForPredictions(8);
  EXPECT_EQ(store_->Stats().predictions, 8u);
}

TEST_F(StorePredictionTest, NothingIsGuessedUnlessTheOptionsSaySo) {
  OpenWith(4);
  Close();
  options_.prefetch_predicted = false;
  Open();
  for (int turn = 0; turn < 2; ++turn) {
    for (int i = 0; i < 4; ++i) Expect(Key(i), kMiB);
    Forget(4);
  }
  const StatsSnapshot stats = store_->Stats();
  EXPECT_EQ(stats.predictions, 0u);
  EXPECT_EQ(stats.fills, 8u);
}

TEST_F(StorePredictionTest, WrongGuessesEnd) {
  constexpr int kKeys = 24;
  OpenWith(kKeys);
  std::mt19937 random(5);
  uint64_t reads = 0;
  for (int turn = 0; turn < 400; ++turn) {
    const int number = static_cast<int>(random() % kKeys);
    Expect(Key(number), kMiB);
    ++reads;
    store_->Evict(Key(number), Level::kL3Nvme).IgnoreError();
  }
  // Each key has one guess before it is known that nothing can be known, and some by chance.
  const StatsSnapshot stats = store_->Stats();
  EXPECT_LT(stats.predictions, reads / 3) << "seed 5";
}

}  // namespace
}  // namespace cairn
