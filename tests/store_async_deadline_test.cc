// Asynchronous gets that end at their deadline, with what is there by then; the loads go on.

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <latch>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "tests/faulty_io.h"
#include "tests/manual_io.h"
#include "tests/store_fixture.h"

namespace cairn {
namespace {

using absl::StatusCode;

constexpr uint64_t kSize = 256 * kKiB;
constexpr GetOptions kSoon = {.timeout = absl::Milliseconds(5)};
constexpr GetOptions kAnyTime = {.timeout = absl::InfiniteDuration()};

class StoreAsyncDeadlineTest : public StoreTest {
 protected:
  // Tensors k0, k1, ... that L3 alone has.
  void PutOnL3(int count) {
    Open();
    for (int i = 0; i < count; ++i) ASSERT_TRUE(Put(absl::StrCat("k", i), kSize).ok()) << i;
    ASSERT_TRUE(store_->Flush().ok());
    Close();
  }
  // What is read stays with the device until the test says so.
  void OpenHung() { Open(WrappedIn(&io_)); }

  Completion Next() {
    Completion done;
    EXPECT_EQ(queue_->Wait({&done, 1}, absl::Minutes(1)), 1u);
    return done;
  }
  void ExpectLate(const Completion& done, uint64_t tag) {
    EXPECT_EQ(done.tag, tag);
    EXPECT_FALSE(done.handle.valid());
    ExpectStatus(done.status, StatusCode::kDeadlineExceeded, "is still being loaded");
  }
  void ExpectNothingMore() {
    Completion done;
    EXPECT_EQ(queue_->outstanding(), 0u);
    EXPECT_EQ(queue_->Drain({&done, 1}), 0u);
  }
  // Nobody holds it once its load has ended.
  void AwaitUnpinnedInL2(const std::string& key) {
    while (!store_->Describe(key)->in_l2) SleepFor(std::chrono::milliseconds(1));
    while (!store_->Evict(key, Level::kL3Nvme).ok()) SleepFor(std::chrono::milliseconds(1));
  }

  ManualIo* io_ = nullptr;
  const std::unique_ptr<CompletionQueue> queue_ = *CompletionQueue::Create(1024);
};

TEST_F(StoreAsyncDeadlineTest, ABatchEndsWithWhatIsThere) {
  PutOnL3(3);
  OpenHung();
  ASSERT_TRUE(store_->GetAsync({"k0"}, kAnyTime, *queue_, 7).ok());
  io_->WaitForPending(1);
  io_->CompleteAll();
  {
    const Completion first = Next();
    ASSERT_TRUE(first.status.ok()) << first.status;
  }
  ASSERT_TRUE(store_->GetAsync({"k1", "k0", "none", "k2"}, kSoon, *queue_, 10).ok());
  std::map<uint64_t, absl::Status> ended;
  for (int i = 0; i < 4; ++i) {
    const Completion done = Next();
    EXPECT_EQ(done.handle.valid(), done.status.ok());
    EXPECT_TRUE(ended.emplace(done.tag, done.status).second) << done.tag;
  }
  EXPECT_EQ(ended[10].code(), StatusCode::kDeadlineExceeded);
  EXPECT_EQ(ended[11], absl::OkStatus());
  EXPECT_EQ(ended[12].code(), StatusCode::kNotFound);
  EXPECT_EQ(ended[13].code(), StatusCode::kDeadlineExceeded);
  ExpectNothingMore();
  // The loads go on, and end no call a second time.
  EXPECT_EQ(io_->pending(), 2u);
  io_->Release();
  AwaitUnpinnedInL2("k1");
  AwaitUnpinnedInL2("k2");
  ExpectNothingMore();
  EXPECT_EQ(store_->Stats().fills, 3u);
  Expect("k1", kSize);
}

TEST_F(StoreAsyncDeadlineTest, ACallbackIsCalledOnce) {
  PutOnL3(1);
  OpenHung();
  std::atomic<int> calls = 0;
  std::latch called(1);
  absl::Status status;
  ASSERT_TRUE(store_
                  ->GetAsync("k0", kSoon,
                             [&](absl::StatusOr<TensorHandle> handle) {
                               if (++calls > 1) return;
                               status = handle.status();
                               called.count_down();
                             })
                  .ok());
  called.wait();
  ExpectStatus(status, StatusCode::kDeadlineExceeded, "k0 is still being loaded");
  io_->Release();
  AwaitUnpinnedInL2("k0");
  Close();
  EXPECT_EQ(calls, 1);
}

// The first waits for as long as it takes, and the second must not.
TEST_F(StoreAsyncDeadlineTest, EachWhoWaitsForRoomHasItsOwnDeadline) {
  Open();
  constexpr uint64_t kHalf = 4 * kMiB;
  for (const char* key : {"a", "b", "c"}) {
    ASSERT_TRUE(Put(key, kHalf, 0, {.durability = Durability::kOnDevice}).ok()) << key;
    ASSERT_TRUE(store_->Evict(key, Level::kL3Nvme).ok());
  }
  ASSERT_TRUE(Put("in the way", 6 * kMiB).ok());
  absl::StatusOr<TensorHandle> in_the_way = store_->Get("in the way", {});
  ASSERT_TRUE(in_the_way.ok()) << in_the_way.status();
  ASSERT_TRUE(store_->GetAsync({"a"}, kAnyTime, *queue_, 1).ok());
  ASSERT_TRUE(store_->GetAsync({"b", "c"}, {.timeout = absl::Milliseconds(20)}, *queue_, 2).ok());
  for (int i = 0; i < 2; ++i) {
    const Completion late = Next();
    EXPECT_NE(late.tag, 1u);
    ExpectStatus(late.status, StatusCode::kResourceExhausted, "still waits for room");
  }
  EXPECT_EQ(queue_->outstanding(), 1u);
  in_the_way = TensorHandle();
  const Completion done = Next();
  EXPECT_EQ(done.tag, 1u);
  ASSERT_TRUE(done.status.ok()) << done.status;
  EXPECT_EQ(done.handle.view().size, kHalf);
  ExpectNothingMore();
}

TEST_F(StoreAsyncDeadlineTest, EachWhoWaitsForALoadHasItsOwnDeadline) {
  PutOnL3(1);
  OpenHung();
  ASSERT_TRUE(store_->GetAsync({"k0"}, kAnyTime, *queue_, 1).ok());
  ASSERT_TRUE(store_->GetAsync({"k0"}, {.timeout = absl::Milliseconds(20)}, *queue_, 2).ok());
  ASSERT_TRUE(store_->GetAsync({"k0"}, {.timeout = absl::ZeroDuration()}, *queue_, 3).ok());
  // On a machine that stalls between the calls the first may be the first to be late.
  const Completion first = Next();
  ASSERT_TRUE(first.tag == 2 || first.tag == 3) << first.tag;
  ExpectLate(first, first.tag);
  ExpectLate(Next(), 5 - first.tag);
  EXPECT_EQ(queue_->outstanding(), 1u);
  io_->Release();
  const Completion done = Next();
  EXPECT_EQ(done.tag, 1u);
  ASSERT_TRUE(done.status.ok()) << done.status;
  const std::vector<std::byte> expected = ContentOf("k0", kSize);
  EXPECT_EQ(std::memcmp(done.handle.view().data, expected.data(), kSize), 0);
  ExpectNothingMore();
}

TEST_F(StoreAsyncDeadlineTest, OnItsWayToL1ItMayBeLateToo) {
  options_.l1_bytes_max = 8 * kMiB;
  options_.device = DeviceKind::kHost;
  PutOnL3(1);
  OpenHung();
  GetOptions to_l1 = kSoon;
  to_l1.want = Level::kL1Gpu;
  ASSERT_TRUE(store_->GetAsync({"k0"}, to_l1, *queue_, 1).ok());
  ExpectLate(Next(), 1);
  io_->Release();
  while (!store_->Describe("k0")->in_l1) SleepFor(std::chrono::milliseconds(1));
  while (!store_->Evict("k0", Level::kL2Pinned).ok()) SleepFor(std::chrono::milliseconds(1));
  ExpectNothingMore();
}

TEST_F(StoreAsyncDeadlineTest, AHungDeviceHoldsSoManyAndNoMore) {
  options_.async_queue_max = 2;
  PutOnL3(1);
  OpenHung();
  for (uint64_t tag = 1; tag <= 2; ++tag) {
    ASSERT_TRUE(store_->GetAsync({"k0"}, kSoon, *queue_, tag).ok());
    ExpectLate(Next(), tag);
  }
  ExpectStatus(store_->GetAsync({"k0"}, kSoon, *queue_, 3), StatusCode::kResourceExhausted,
               "2 asynchronous gets that have ended late");
  ExpectStatus(store_->GetAsync("k0", kSoon, [](absl::StatusOr<TensorHandle>) { FAIL(); }),
               StatusCode::kResourceExhausted, "ended late");
  ExpectNothingMore();
  io_->Release();
  AwaitUnpinnedInL2("k0");
  while (!store_->GetAsync({"k0"}, kAnyTime, *queue_, 4).ok()) {
    SleepFor(std::chrono::milliseconds(1));
  }
  EXPECT_TRUE(Next().status.ok());
}

// Who was told may be gone when the load ends; and a close waits for the load alone.
TEST_F(StoreAsyncDeadlineTest, TheQueueMayGoBeforeTheLoad) {
  PutOnL3(1);
  options_.close_timeout = absl::Milliseconds(50);
  OpenHung();
  auto queue = *CompletionQueue::Create(1);
  ASSERT_TRUE(store_->GetAsync({"k0"}, kSoon, *queue, 1).ok());
  Completion done;
  ASSERT_EQ(queue->Wait({&done, 1}, absl::Minutes(1)), 1u);
  queue.reset();
  EXPECT_TRUE(absl::IsDeadlineExceeded(store_->Close()));
  io_->Release();
  ExpectClosesNow();
}

// Deadlines and loads that end at the same time: each call ends once, with its bytes or late.
TEST_F(StoreAsyncDeadlineTest, DeadlinesAndLoadsMeet) {
  constexpr int kTensors = 16;
  constexpr int kRounds = 200;
  PutOnL3(kTensors);
  FaultyIo* io = nullptr;
  Open(WrappedIn(&io));
  io->SetPlan(FaultyIo::RandomPlan(1, 0.5, {FaultyIo::Kind::kDelay}));
  std::mt19937_64 random(2);
  std::vector<int> ended(kRounds * kTensors);
  for (int round = 0; round < kRounds; ++round) {
    for (int i = 0; i < kTensors; ++i) {
      const std::string key = absl::StrCat("k", i);
      const GetOptions options = {.timeout = absl::Microseconds(random() % 2000)};
      const uint64_t tag = static_cast<uint64_t>(round * kTensors + i);
      ASSERT_TRUE(store_->GetAsync({key}, options, *queue_, tag).ok());
    }
    for (int i = 0; i < kTensors; ++i) {
      const Completion done = Next();
      ++ended[done.tag];
      if (absl::IsDeadlineExceeded(done.status)) continue;
      ASSERT_TRUE(done.status.ok()) << done.status;
      const std::string key = absl::StrCat("k", done.tag % kTensors);
      EXPECT_EQ(std::memcmp(done.handle.view().data, ContentOf(key, kSize).data(), kSize), 0);
    }
    for (int i = 0; i < kTensors; ++i) {
      store_->Evict(absl::StrCat("k", i), Level::kL3Nvme).IgnoreError();
    }
  }
  ExpectNothingMore();
  EXPECT_EQ(ended, std::vector<int>(kRounds * kTensors, 1));
}

}  // namespace
}  // namespace cairn
