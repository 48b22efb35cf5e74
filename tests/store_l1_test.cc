// The store with three tiers, through its public face. A device of the host stands in for the GPU.

#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "tests/l1_fixture.h"

namespace cairn {
namespace {

using absl::StatusCode;

TEST_F(L1Test, ATensorComesUpFromEachTier) {
  OpenL1();
  ASSERT_TRUE(Put("k", 700 * kKiB).ok());
  ExpectInL1("k", 700 * kKiB, Level::kL2Pinned);
  EXPECT_TRUE(IsInL1("k"));
  ExpectInL1("k", 700 * kKiB, Level::kL1Gpu);
  ASSERT_TRUE(store_->Evict("k", Level::kL3Nvme).ok());
  EXPECT_FALSE(IsInL1("k"));
  EXPECT_FALSE(IsInL2("k"));
  ExpectInL1("k", 700 * kKiB, Level::kL3Nvme);

  const StatsSnapshot stats = store_->Stats();
  EXPECT_EQ(stats.l1.hits, 1u);
  EXPECT_EQ(stats.l2.hits, 1u);
  EXPECT_EQ(stats.l3.hits, 1u);
  EXPECT_EQ(stats.lifts, 2u);
  EXPECT_EQ(stats.lift_failures, 0u);
  EXPECT_EQ(stats.gets, 3u);
  EXPECT_EQ(stats.l1.tensors, 1u);
  EXPECT_EQ(stats.l1.bytes_used, 704 * kKiB) << "as the allocator rounds 700";
  EXPECT_EQ(stats.l1.bytes_max, 4 * kMiB);
  EXPECT_EQ(stats.l1.bytes_read, 700 * kKiB);
  EXPECT_EQ(stats.l1.bytes_written, 2 * 700 * kKiB);
}

TEST_F(L1Test, TheLogSaysThatTheHostStandsIn) {
  if (TestsGpu()) GTEST_SKIP() << "there is a GPU";
  OpenL1();
  const MutexLock lock(log_mutex_);
  EXPECT_TRUE(std::any_of(log_.begin(), log_.end(), [](const std::string& line) {
    return line.find("HostDevice stands in") != std::string::npos;
  }));
}

TEST_F(L1Test, EvictDropsWhatIsAboveTheLevelToKeep) {
  OpenL1();
  ASSERT_TRUE(Put("k", 5000).ok());
  ExpectInL1("k", 5000, Level::kL2Pinned);
  ASSERT_TRUE(store_->Evict("k", Level::kL1Gpu).ok());
  EXPECT_TRUE(IsInL1("k"));
  ASSERT_TRUE(store_->Evict("k", Level::kL2Pinned).ok());
  EXPECT_FALSE(IsInL1("k"));
  EXPECT_TRUE(IsInL2("k"));
  EXPECT_EQ(store_->Stats().l1.bytes_used, 0u);
  ExpectStatus(store_->Evict("none", Level::kL2Pinned), StatusCode::kNotFound, "none");
}

TEST_F(L1Test, UnderPressureTheColdestLeaves) {
  OpenL1();
  for (int i = 0; i < 8; ++i) ASSERT_TRUE(Put("k" + std::to_string(i), kMiB).ok());
  for (int i = 0; i < 4; ++i) ExpectInL1("k" + std::to_string(i), kMiB, Level::kL2Pinned);
  ExpectInL1("k0", kMiB, Level::kL1Gpu);
  // k1 is the coldest now, then k2 and k3.
  ExpectInL1("k4", kMiB, Level::kL2Pinned);
  EXPECT_TRUE(IsInL1("k0"));
  EXPECT_FALSE(IsInL1("k1"));
  EXPECT_TRUE(IsInL1("k2"));
  for (int round = 0; round < 3; ++round) {
    for (int i = 0; i < 8; ++i) {
      const absl::StatusOr<TensorHandle> handle = GetInL1("k" + std::to_string(i));
      ASSERT_TRUE(handle.ok()) << handle.status();
      EXPECT_TRUE(Matches(*handle, "k" + std::to_string(i), kMiB));
    }
  }
  EXPECT_EQ(store_->Stats().l1.tensors, 4u);
  EXPECT_GE(store_->Stats().l1.evictions, 20u);
}

TEST_F(L1Test, WhatIsPinnedStaysAndIsWaitedFor) {
  OpenL1();
  std::vector<TensorHandle> held;
  for (int i = 0; i < 4; ++i) {
    ASSERT_TRUE(Put("k" + std::to_string(i), kMiB).ok());
    held.push_back(*GetInL1("k" + std::to_string(i)));
  }
  ASSERT_TRUE(Put("more", kMiB).ok());
  ExpectStatus(GetInL1("more", absl::Milliseconds(20)).status(), StatusCode::kResourceExhausted,
               "L1 is full");
  ExpectStatus(store_->Evict("k0", Level::kL2Pinned), StatusCode::kResourceExhausted, "k0");
  EXPECT_TRUE(Matches(held[0], "k0", kMiB));
  std::jthread releases([&held] { held[2].Release(); });
  ExpectInL1("more", kMiB, Level::kL2Pinned);
  EXPECT_FALSE(IsInL1("k2"));
}

// The copy in L2 is of no use while a model reads the one in L1: it may go.
TEST_F(L1Test, APinInL1HoldsNothingInL2) {
  options_.l2_bytes_max = 4 * kMiB;
  OpenL1();
  ASSERT_TRUE(Put("k", kMiB, 0, {.durability = Durability::kOnDevice}).ok());
  const TensorHandle held = *GetInL1("k");
  for (int i = 0; i < 12; ++i) {
    ASSERT_TRUE(
        Put("other" + std::to_string(i), kMiB, 0, {.durability = Durability::kOnDevice}).ok());
  }
  EXPECT_FALSE(IsInL2("k"));
  EXPECT_TRUE(IsInL1("k"));
  EXPECT_TRUE(Matches(held, "k", kMiB));
  ExpectInL1("k", kMiB, Level::kL1Gpu);
  // And it can be read below all the same.
  Expect("k", kMiB);
}

TEST_F(L1Test, ReplaceAndEraseSpareReadersInL1) {
  OpenL1();
  ASSERT_TRUE(Put("k", kMiB, 1).ok());
  TensorHandle old = *GetInL1("k");
  ASSERT_TRUE(Put("k", kMiB, 2).ok());
  EXPECT_TRUE(Matches(old, "k", kMiB, 1));
  TensorHandle replaced = *GetInL1("k");
  EXPECT_TRUE(Matches(replaced, "k", kMiB, 2));
  ASSERT_TRUE(store_->Erase("k").ok());
  EXPECT_TRUE(absl::IsNotFound(GetInL1("k").status()));
  EXPECT_TRUE(Matches(old, "k", kMiB, 1));
  EXPECT_TRUE(Matches(replaced, "k", kMiB, 2));
  EXPECT_EQ(store_->Stats().l1.tensors, 0u);
  EXPECT_EQ(store_->Stats().l1.bytes_used, 2 * kMiB);
  old.Release();
  replaced.Release();
  ASSERT_TRUE(store_->Flush().ok());  // What is being written keeps its place until then.
  EXPECT_EQ(store_->Stats().l1.bytes_used, 0u);
  EXPECT_EQ(store_->Stats().l2.bytes_used, 0u);
}

TEST_F(L1Test, AHandleInL1OutlivesTheStore) {
  OpenL1();
  ASSERT_TRUE(Put("k", 5000).ok());
  const TensorHandle handle = *GetInL1("k");
  Close();
  EXPECT_TRUE(Matches(handle, "k", 5000));
}

TEST_F(L1Test, AfterARestartItComesFromL3) {
  OpenL1();
  for (int i = 0; i < 6; ++i) ASSERT_TRUE(Put("k" + std::to_string(i), 900 * kKiB).ok());
  for (int i = 0; i < 6; ++i) {
    ExpectInL1("k" + std::to_string(i), 900 * kKiB, Level::kL2Pinned);
  }
  Close();
  OpenL1();
  EXPECT_EQ(store_->Stats().l1.tensors, 0u);
  for (int i = 0; i < 6; ++i) ExpectInL1("k" + std::to_string(i), 900 * kKiB, Level::kL3Nvme);
}

TEST_F(L1Test, WhatCanNeverFitIsRefused) {
  OpenL1();
  ASSERT_TRUE(Put("large", 5 * kMiB).ok());
  ExpectStatus(GetInL1("large").status(), StatusCode::kInvalidArgument, "more than L1's 4194304");
  Expect("large", 5 * kMiB);
  EXPECT_EQ(store_->Prefetch({"large"}, {.to = Level::kL1Gpu}), 1u);
}

TEST_F(L1Test, SmallTensorsAndOddSizes) {
  OpenL1(50);
  for (uint64_t size : {1u, 100u, 4095u, 4096u, 4097u, 65535u, 65537u, 1000003u}) {
    const std::string key = "k" + std::to_string(size);
    ASSERT_TRUE(Put(key, size).ok());
    ExpectInL1(key, size, Level::kL2Pinned);
    ASSERT_TRUE(store_->Evict(key, Level::kL3Nvme).ok());
    ExpectInL1(key, size, Level::kL3Nvme);
  }
}

TEST_F(L1Test, AsynchronousGetsEndInL1) {
  OpenL1(200);
  std::vector<std::string> names;
  for (int i = 0; i < 12; ++i) {
    names.push_back("k" + std::to_string(i));
    ASSERT_TRUE(Put(names.back(), kMiB).ok());
    if (i % 2 == 0) {
      ASSERT_TRUE(store_->Evict(names.back(), Level::kL3Nvme).ok());
    }
  }
  const auto queue = *CompletionQueue::Create(64);
  const std::vector<TensorKey> keys(names.begin(), names.end());
  // Three times as much as L1 takes: each waits until one before it was let go of.
  ASSERT_TRUE(store_->GetAsync(keys, {.want = Level::kL1Gpu}, *queue, 0).ok());
  for (size_t ended = 0; ended < names.size();) {
    std::vector<Completion> done(4);
    const size_t count = queue->Wait(absl::MakeSpan(done), absl::Seconds(30));
    ASSERT_GT(count, 0u);
    for (size_t i = 0; i < count; ++i) {
      ASSERT_TRUE(done[i].status.ok()) << done[i].status;
      EXPECT_EQ(done[i].handle.level(), Level::kL1Gpu);
      EXPECT_TRUE(Matches(done[i].handle, names[done[i].tag], kMiB));
    }
    ended += count;
  }
  EXPECT_EQ(store_->Stats().l1.hits, 0u);
  EXPECT_EQ(store_->Stats().l3.hits, 6u);
}

TEST_F(L1Test, APrefetchBringsItToL1) {
  OpenL1(100);
  ASSERT_TRUE(Put("in_l2", 300 * kKiB).ok());
  ASSERT_TRUE(Put("in_l3", 300 * kKiB).ok());
  ASSERT_TRUE(store_->Evict("in_l3", Level::kL3Nvme).ok());
  EXPECT_EQ(store_->Prefetch({"in_l2", "in_l3", "none"}, {.to = Level::kL1Gpu}), 2u);
  while (!IsInL1("in_l2") || !IsInL1("in_l3")) SleepFor(std::chrono::milliseconds(1));
  EXPECT_EQ(store_->Prefetch({"in_l2", "in_l3"}, {.to = Level::kL1Gpu}), 0u);
  ExpectInL1("in_l2", 300 * kKiB, Level::kL1Gpu);
  ExpectInL1("in_l3", 300 * kKiB, Level::kL1Gpu);
}

TEST_F(L1Test, LeadingHitsAreCountedByTheirHighestTier) {
  OpenL1();
  for (const char* key : {"a", "b", "c"}) ASSERT_TRUE(Put(key, 5000).ok());
  ExpectInL1("a", 5000, Level::kL2Pinned);
  ASSERT_TRUE(store_->Evict("c", Level::kL3Nvme).ok());
  const absl::StatusOr<LeadingHits> hits = store_->CountLeading({"a", "b", "c"}, {});
  ASSERT_TRUE(hits.ok());
  EXPECT_EQ(hits->count, 3u);
  EXPECT_EQ(hits->count_l1, 1u);
  EXPECT_EQ(hits->count_l2, 1u);
  EXPECT_EQ(hits->count_l3, 1u);
}

// It is brought to the GPU ahead of the copy; its views say what it is.
TEST_F(L1Test, ManagedMemoryOfAGpu) {
  if (TestsGpu()) GTEST_SKIP() << "a GPU may have none";
  poses_as_gpu_ = true;
  options_.l1_memory = L1Memory::kManaged;
  OpenL1();
  EXPECT_EQ(device_->managed.size(), options_.l1_bytes_max);
  ASSERT_TRUE(Put("k", 700 * kKiB).ok());
  device_->prefetches_to_refuse = 1;
  ExpectStatus(GetInL1("k").status(), StatusCode::kUnavailable, "prefetches nothing");
  EXPECT_EQ(store_->Stats().l1.bytes_used, 0u);
  const absl::StatusOr<TensorHandle> handle = GetInL1("k");
  ASSERT_TRUE(handle.ok()) << handle.status();
  EXPECT_EQ(handle->view().kind, MemoryKind::kManaged);
  EXPECT_EQ(handle->view().device, 0);
  EXPECT_GE(device_->bytes_prefetched, 700 * kKiB);
  EXPECT_TRUE(Matches(*handle, "k", 700 * kKiB));
}

TEST_F(L1Test, ManagedMemoryOfTheHostIsItsOwn) {
  if (TestsGpu()) GTEST_SKIP() << "there is a GPU";
  options_.l1_memory = L1Memory::kManaged;
  OpenL1();
  ASSERT_TRUE(Put("k", 5000).ok());
  EXPECT_EQ(GetInL1("k")->view().kind, MemoryKind::kHost);
}

}  // namespace
}  // namespace cairn
