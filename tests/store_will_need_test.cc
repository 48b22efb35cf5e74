// WillNeed and Cancel: the order in which tensors are brought, how far ahead, and what is counted.

#include <gtest/gtest.h>

#include <atomic>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "src/prefetch_queue.h"
#include "tests/manual_io.h"
#include "tests/store_fixture.h"

namespace cairn {
namespace {

class StoreWillNeedTest : public StoreTest {
 protected:
  // Tensors of a MiB that L3 alone has: k0, k1, ...
  void OpenWith(int count, StoreSeams seams = {}) {
    Open();
    for (int i = 0; i < count; ++i) ASSERT_TRUE(Put(Key(i), kMiB, 0).ok());
    ASSERT_TRUE(store_->Flush().ok());
    Close();
    Open(std::move(seams));
  }
  static std::string Key(int number) { return absl::StrCat("k", number); }
  PrefetchToken WillNeed(const std::vector<int>& numbers, const WillNeedOptions& options = {}) {
    std::vector<std::string> names;
    for (const int number : numbers) names.push_back(Key(number));
    const std::vector<TensorKey> keys(names.begin(), names.end());
    const absl::StatusOr<PrefetchToken> token = store_->WillNeed(keys, options);
    EXPECT_TRUE(token.ok()) << token.status();
    return token.value_or(0);
  }
  bool InL2(int number) const { return store_->Describe(Key(number))->in_l2; }
  // Those that are in L2, in the order in which they came, when each is asked for as it comes.
  std::vector<int> OrderOfArrival(ManualIo& io, int count) {
    std::vector<int> order;
    while (io.pending() > 0) {
      io.Complete(0);
      for (int i = 0; i < count; ++i) {
        if (!InL2(i) || std::count(order.begin(), order.end(), i) > 0) continue;
        order.push_back(i);
        Expect(Key(i), kMiB);
      }
    }
    return order;
  }
};

TEST_F(StoreWillNeedTest, WhatIsDueFirstComesFirst) {
  options_.prefetch_ahead_bytes_max = kMiB;
  ManualIo* io = nullptr;
  OpenWith(6, WrappedIn(&io));
  WillNeed({0});
  WillNeed({1}, {.due = absl::Seconds(60)});
  WillNeed({2, 3}, {.due = absl::Seconds(10)});
  WillNeed({4}, {.due = absl::Seconds(60), .priority = 1});
  WillNeed({5});
  EXPECT_EQ(store_->Stats().prefetches_waiting, 5u);
  // The calls for a minute from now were not made at the same moment: the earlier is due earlier.
  EXPECT_EQ(OrderOfArrival(*io, 6), (std::vector<int>{0, 5, 2, 3, 1, 4}));
  const StatsSnapshot stats = store_->Stats();
  EXPECT_EQ(stats.prefetches, 6u);
  EXPECT_EQ(stats.prefetches_used, 6u);
  EXPECT_EQ(stats.prefetches_waiting, 0u);
}

TEST_F(StoreWillNeedTest, NoMoreIsAheadThanTheBudget) {
  options_.prefetch_ahead_bytes_max = 3 * kMiB;
  ManualIo* io = nullptr;
  OpenWith(8, WrappedIn(&io));
  WillNeed({0, 1, 2, 3, 4, 5, 6, 7});
  EXPECT_EQ(io->pending(), 3u);
  io->CompleteAll();
  EXPECT_EQ(io->pending(), 0u);
  for (int i = 0; i < 8; ++i) EXPECT_EQ(InL2(i), i < 3);
  // Asked for, it makes room for the next.
  Expect(Key(1), kMiB);
  EXPECT_EQ(io->pending(), 1u);
  io->CompleteAll();
  EXPECT_TRUE(InL2(3));
  Expect(Key(1), kMiB);
  EXPECT_EQ(io->pending(), 0u);
  io->Release();
}

TEST_F(StoreWillNeedTest, WhatIsCancelledMovesNoByte) {
  options_.prefetch_ahead_bytes_max = 2 * kMiB;
  ManualIo* io = nullptr;
  OpenWith(8, WrappedIn(&io));
  const PrefetchToken first = WillNeed({0, 1, 2, 3});
  const PrefetchToken second = WillNeed({4, 5});
  EXPECT_NE(first, second);
  EXPECT_EQ(store_->Cancel(first), 2u);
  EXPECT_EQ(store_->Cancel(first), 0u);
  EXPECT_EQ(store_->Cancel(second + 1), 0u);
  io->CompleteAll();
  Expect(Key(0), kMiB);
  Expect(Key(1), kMiB);
  io->CompleteAll();
  EXPECT_TRUE(InL2(4) && InL2(5));
  EXPECT_FALSE(InL2(2) || InL2(3));
  const StatsSnapshot stats = store_->Stats();
  EXPECT_EQ(stats.prefetches_cancelled, 2u);
  EXPECT_EQ(stats.l3.bytes_read, 4 * kMiB);
}

TEST_F(StoreWillNeedTest, DemandDoesNotWaitForItsTurn) {
  options_.prefetch_ahead_bytes_max = kMiB;
  ManualIo* io = nullptr;
  OpenWith(3, WrappedIn(&io));
  WillNeed({0, 1, 2});
  ASSERT_EQ(io->pending(), 1u);
  std::thread reader([this] { Expect(Key(2), kMiB); });
  io->WaitForPending(2);
  io->Complete(1);
  reader.join();
  EXPECT_FALSE(InL2(0));
  // Nothing is left to do for the one that came by itself.
  EXPECT_EQ(OrderOfArrival(*io, 2), (std::vector<int>{0, 1}));
  EXPECT_EQ(store_->Stats().prefetches, 2u);
  EXPECT_EQ(store_->Stats().fills, 3u);
}

TEST_F(StoreWillNeedTest, DemandRaisesAPrefetchInFlight) {
  ManualIo* io = nullptr;
  OpenWith(2, WrappedIn(&io));
  WillNeed({0, 1}, {.due = absl::Seconds(60)});
  ASSERT_EQ(io->pending(), 2u);
  EXPECT_EQ(io->op(1).priority, IoPriority::kPrefetch);
  EXPECT_FALSE(io->op(0).raised() || io->op(1).raised());
  std::thread reader([this] { Expect(Key(1), kMiB); });
  while (store_->Stats().fills_joined == 0) std::this_thread::yield();
  EXPECT_TRUE(io->op(1).raised());
  EXPECT_FALSE(io->op(0).raised());
  // Nothing is read twice.
  EXPECT_EQ(io->pending(), 2u);
  io->Complete(1);
  reader.join();
  EXPECT_EQ(store_->Stats().prefetches_late, 1u);
  EXPECT_EQ(store_->Stats().fills, 1u);
  io->Release();
}

TEST_F(StoreWillNeedTest, UsedLateAndUnusedAreCounted) {
  ManualIo* io = nullptr;
  OpenWith(3, WrappedIn(&io));
  WillNeed({0, 1, 2});
  std::thread late([this] { Expect(Key(0), kMiB); });
  while (store_->Stats().prefetches_late == 0) std::this_thread::yield();
  io->CompleteAll();
  late.join();
  Expect(Key(1), kMiB);
  Expect(Key(1), kMiB);
  ASSERT_TRUE(store_->Evict(Key(2), Level::kL3Nvme).ok());
  const StatsSnapshot stats = store_->Stats();
  EXPECT_EQ(stats.prefetches_late, 1u);
  EXPECT_EQ(stats.prefetches_used, 1u);
  EXPECT_EQ(stats.prefetches_unused, 1u);
  io->Release();
}

TEST_F(StoreWillNeedTest, WrongHintsAreFollowedLess) {
  options_.prefetch_ahead_bytes_max = 4 * kMiB;
  ManualIo* io = nullptr;
  OpenWith(34, WrappedIn(&io));
  for (int i = 0; i < 34; ++i) {
    WillNeed({i});
    io->CompleteAll();
    const absl::Status evicted = store_->Evict(Key(i), Level::kL3Nvme);
    ASSERT_TRUE(evicted.ok()) << i << ": " << evicted;
  }
  EXPECT_EQ(store_->Stats().prefetches_unused, 34u);
  WillNeed({0, 1, 2, 3});
  EXPECT_EQ(io->pending(), 1u);
  io->Release();
}

TEST_F(StoreWillNeedTest, AFailedReadMakesRoomForTheNext) {
  options_.prefetch_ahead_bytes_max = kMiB;
  ManualIo* io = nullptr;
  OpenWith(2, WrappedIn(&io));
  WillNeed({0, 1});
  // Read twice, as every tensor whose bytes cannot be had.
  io->Complete(0, absl::DataLossError("EIO"));
  if (!InL2(1) && store_->Stats().read_errors == 0) io->Complete(0, absl::DataLossError("EIO"));
  io->CompleteAll();
  EXPECT_TRUE(InL2(1));
  EXPECT_TRUE(absl::IsDataLoss(GetStatus(Key(0))));
}

TEST_F(StoreWillNeedTest, ToL1WhereThereIsOne) {
  options_.l1_bytes_max = 4 * kMiB;
  options_.device = DeviceKind::kHost;
  OpenWith(2);
  WillNeed({0, 1}, {.to = Level::kL1Gpu});
  while (!store_->Describe(Key(0))->in_l1 || !store_->Describe(Key(1))->in_l1) {
    std::this_thread::yield();
  }
}

TEST_F(StoreWillNeedTest, MistakesAreRefusedByName) {
  options_.prefetch_queue_max = 4;
  options_.prefetch_ahead_bytes_max = kMiB;
  ManualIo* io = nullptr;
  OpenWith(6, WrappedIn(&io));
  const std::vector<TensorKey> keys = {"k0", "k1", "k2", "k3", "k4"};
  ExpectStatus(store_->WillNeed(keys, {}).status(), absl::StatusCode::kResourceExhausted, "of 4");
  EXPECT_EQ(io->pending(), 0u);
  const std::vector<TensorKey> empty = {""};
  ExpectStatus(store_->WillNeed(empty, {}).status(), absl::StatusCode::kInvalidArgument, "empty");
  ExpectStatus(store_->WillNeed(keys, {.to = Level::kL1Gpu}).status(),
               absl::StatusCode::kInvalidArgument, "to must be");
  const std::vector<TensorKey> unknown = {"no such tensor"};
  EXPECT_TRUE(store_->WillNeed(unknown, {}).ok());
  EXPECT_EQ(store_->Stats().prefetches_waiting, 0u);
  EXPECT_TRUE(store_->WillNeed({}, {}).ok());
  io->Release();
}

TEST_F(StoreWillNeedTest, CloseForgetsWhatWaits) {
  options_.prefetch_ahead_bytes_max = kMiB;
  ManualIo* io = nullptr;
  OpenWith(4, WrappedIn(&io));
  WillNeed({0, 1, 2, 3});
  ASSERT_EQ(io->pending(), 1u);
  io->Release();
  Close();
  Open();
  Expect(Key(3), kMiB);
}

TEST_F(StoreWillNeedTest, ManyThreadsHintCancelReadAndWrite) {
  constexpr int kKeys = 24;
  constexpr int kTurns = 150;
  options_.prefetch_ahead_bytes_max = 3 * kMiB;
  OpenWith(kKeys);
  std::atomic<int> wrong = 0;
  std::vector<std::thread> threads;
  for (int thread = 0; thread < 4; ++thread) {
    threads.emplace_back([this, thread, &wrong] {
      std::mt19937 random(static_cast<uint32_t>(thread));
      PrefetchToken token = 0;
      for (int turn = 0; turn < kTurns; ++turn) {
        const std::string key = Key(static_cast<int>(random() % kKeys));
        const std::vector<TensorKey> keys = {key, "k1", "k2"};
        switch (random() % 6) {
          case 0:
            token = store_->WillNeed(keys, {.due = absl::Milliseconds(random() % 20)}).value_or(0);
            break;
          case 1:
            store_->Cancel(token);
            break;
          case 2:
            if (!Put(key, kMiB >> (random() % 3)).ok()) ++wrong;
            break;
          case 3:
            store_->Evict(key, Level::kL3Nvme).IgnoreError();
            break;
          default:
            const absl::StatusOr<TensorHandle> handle = store_->Get(key, {});
            if (!handle.ok() ||
                std::memcmp(handle->view().data, ContentOf(key, handle->view().size, 0).data(),
                            handle->view().size) != 0) {
              ++wrong;
            }
        }
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(wrong, 0);
  const StatsSnapshot stats = store_->Stats();
  EXPECT_GE(stats.prefetches, stats.prefetches_used + stats.prefetches_late);
}

TEST(PrefetchQueueTest, WhatNobodyAskedForInAMinuteIsWrittenOff) {
  PrefetchQueue queue({.keys_max = 10, .ahead_bytes_max = 100, .in_flight_bytes_max = 1000});
  const Deadline start = SteadyNow();
  const std::vector<TensorKey> keys = {"a", "b", "c"};
  ASSERT_TRUE(queue.Add(keys, {}, start).ok());
  EXPECT_EQ(queue.Pop(start)->key, "a");
  const uint32_t began = queue.Began(100, start);
  EXPECT_FALSE(queue.Pop(start).has_value());
  EXPECT_FALSE(queue.Pop(start + std::chrono::seconds(59)).has_value());
  EXPECT_EQ(queue.Pop(start + std::chrono::seconds(73))->key, "b");
  // When it is asked for after all that is counted, and frees nothing twice.
  queue.Ended(began, 100, PrefetchQueue::End::kUsed);
  EXPECT_EQ(queue.figures().used, 1u);
  EXPECT_EQ(queue.figures().ahead_bytes, 0u);
}

}  // namespace
}  // namespace cairn
