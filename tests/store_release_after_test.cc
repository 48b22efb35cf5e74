// Handles that are given up in the order of streams: few events, and room that is used again behind
// who reads it without anybody on the host waiting.

#include <gtest/gtest.h>

#include <deque>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "tests/l1_fixture.h"

namespace cairn {
namespace {

using absl::StatusCode;

class ReleaseAfterTest : public L1Test {
 protected:
  void SetUp() override {
    if (TestsGpu()) GTEST_SKIP() << "a GPU's streams are not held up by a test";
  }
  // The store ends when its streams have come to the releases.
  void TearDown() override {
    for (const auto& gate : gates_) gate->Open();
  }
  std::shared_ptr<FaultyDevice::Gate> Hold(StreamRef stream) {
    return gates_.emplace_back(devices_.at(stream.device)->Hold(stream));
  }
  // With an L1 of one tensor of kSize.
  void OpenSmall(uint64_t delay_us_max = 0) {
    options_.l1_bytes_max = kSize;
    OpenL1(delay_us_max);
    stream_ = *device_->CreateStream();
    for (int i = 0; i < kKeys; ++i) ASSERT_TRUE(Put(NameOf(i), kSize).ok());
  }
  absl::StatusOr<TensorHandle> GetFor(StreamRef stream, const std::string& key) {
    return store_->Get(key, {.want = Level::kL1Gpu, .consumer = stream});
  }
  // The stream reads it, and then it is released. What it reads stays as long as the fixture.
  const std::vector<std::byte>& ReadAndRelease(TensorHandle handle, StreamRef stream)
      ABSL_LOCKS_EXCLUDED(mutex_) {
    std::vector<std::byte>& target = NewTarget(handle.view().size);
    const CopyPiece piece = {target.data(), handle.view().data, target.size()};
    FaultyDevice& device = *devices_.at(stream.device);
    EXPECT_TRUE(device.Copy(stream, CopyDirection::kToHost, {&piece, 1}).ok());
    EXPECT_TRUE(handle.ReleaseAfter(stream).ok());
    EXPECT_FALSE(handle.valid());
    return target;
  }
  static std::string NameOf(int key) { return "k" + std::to_string(key); }
  // What a thread of the store's does soon.
  template <typename Condition>
  static bool Soon(Condition condition) {
    for (int i = 0; i < 20000; ++i) {
      if (condition()) return true;
      SleepFor(std::chrono::milliseconds(1));
    }
    return false;
  }

  static constexpr uint64_t kSize = kMiB;
  static constexpr int kKeys = 4;
  StreamRef stream_;

 private:
  std::vector<std::byte>& NewTarget(uint64_t bytes) ABSL_LOCKS_EXCLUDED(mutex_) {
    MutexLock lock(mutex_);
    return targets_.emplace_back(bytes);
  }

  std::vector<std::shared_ptr<FaultyDevice::Gate>> gates_;
  Mutex mutex_;
  std::deque<std::vector<std::byte>> targets_ ABSL_GUARDED_BY(mutex_);
};

// A burst of a thousand, of which the device has not begun the first: both tiers' handles.
TEST_F(ReleaseAfterTest, AThousandReleasesTakeFewEvents) {
  OpenSmall();
  for (const Level want : {Level::kL1Gpu, Level::kL2Pinned}) {
    std::deque<TensorHandle> handles;
    for (int i = 0; i < 1000; ++i) handles.push_back(*store_->Get(NameOf(0), {.want = want}));
    const auto gate = Hold(stream_);
    device_->records = 0;
    for (TensorHandle& handle : handles) ASSERT_TRUE(handle.ReleaseAfter(stream_).ok());
    gate->Open();
    ASSERT_TRUE(device_->Synchronize(stream_).ok());
    EXPECT_TRUE(Soon([&] { return store_->Evict(NameOf(0), Level::kL3Nvme).ok(); }));
    EXPECT_TRUE(Soon([&] { return store_->Stats().l1.bytes_used == 0; }));
    EXPECT_LE(device_->records, 20);
    RecordProperty(want == Level::kL1Gpu ? "l1_events" : "l2_events", device_->records.load());
  }
}

// Nobody waits: not the host for a stream that has not begun, nor for a copy that is behind it.
TEST_F(ReleaseAfterTest, RoomIsGivenOnBehindWhoReadsIt) {
  OpenSmall(/*delay_us_max=*/1000);
  std::vector<const std::vector<std::byte>*> read;
  for (int i = 0; i < kKeys; i += 2) {
    const auto gate = Hold(stream_);
    for (const int key : {i, i + 1}) {
      absl::StatusOr<TensorHandle> handle = GetFor(stream_, NameOf(key));
      ASSERT_TRUE(handle.ok()) << handle.status();
      EXPECT_EQ(handle->view().data, device_->arena.data());
      read.push_back(&ReadAndRelease(*std::move(handle), stream_));
    }
    // Else the events of these may come behind the next gate.
    ASSERT_TRUE(store_->ForgetStream(stream_).ok());
    gate->Open();
  }
  EXPECT_EQ(store_->Stats().l1.evictions, uint64_t{kKeys - 1});
  ASSERT_TRUE(device_->Synchronize(stream_).ok());
  for (int i = 0; i < kKeys; ++i) EXPECT_TRUE(*read[i] == ContentOf(NameOf(i), kSize)) << i;
}

// What is on its way there has to have come before it may leave.
TEST_F(ReleaseAfterTest, ACopyThatWaitsForAStreamIsNotPushedOut) {
  OpenSmall();
  const auto gate = Hold(stream_);
  std::vector<const std::vector<std::byte>*> read;
  for (const int key : {0, 1}) {
    read.push_back(&ReadAndRelease(*GetFor(stream_, NameOf(key)), stream_));
  }
  const GetOptions brief = {
      .want = Level::kL1Gpu, .timeout = absl::Milliseconds(50), .consumer = stream_};
  ExpectStatus(store_->Get(NameOf(2), brief).status(), StatusCode::kResourceExhausted,
               "L1 is full");
  gate->Open();
  EXPECT_TRUE(GetFor(stream_, NameOf(2)).ok());
  ASSERT_TRUE(device_->Synchronize(stream_).ok());
  for (const int key : {0, 1}) EXPECT_TRUE(*read[key] == ContentOf(NameOf(key), kSize)) << key;
}

// Nor does a Get without a stream take room from under one: it has to wait for it.
TEST_F(ReleaseAfterTest, AGetWithoutAStreamWaitsForThoseOfOthers) {
  OpenSmall();
  auto gate = Hold(stream_);
  const std::vector<std::byte>& read = ReadAndRelease(*GetFor(stream_, NameOf(0)), stream_);
  ExpectStatus(GetInL1(NameOf(1), absl::Milliseconds(50)).status(), StatusCode::kDeadlineExceeded,
               "still being copied");
  gate->Open();
  ExpectInL1(NameOf(1), kSize, Level::kL1Gpu);
  ASSERT_TRUE(device_->Synchronize(stream_).ok());
  EXPECT_TRUE(read == ContentOf(NameOf(0), kSize));
}

// A place that does not fit is not given on: nothing leaves L1 in vain.
TEST_F(ReleaseAfterTest, ATensorOfAnotherSizeWaitsForRoom) {
  OpenSmall();
  ASSERT_TRUE(Put("small", 64 * kKiB).ok());
  const auto gate = Hold(stream_);
  const std::vector<std::byte>& read = ReadAndRelease(*GetFor(stream_, NameOf(0)), stream_);
  ExpectStatus(GetInL1("small", absl::Milliseconds(50)).status(), StatusCode::kResourceExhausted,
               "L1 is full");
  EXPECT_TRUE(IsInL1(NameOf(0)));
  gate->Open();
  ExpectInL1("small", 64 * kKiB, Level::kL2Pinned);
  ASSERT_TRUE(device_->Synchronize(stream_).ok());
  EXPECT_TRUE(read == ContentOf(NameOf(0), kSize));
}

TEST_F(ReleaseAfterTest, WhatLeavesUnderAStreamKeepsItsRoomUntilThen) {
  OpenSmall();
  for (const bool erased : {false, true}) {
    const auto gate = Hold(stream_);
    const std::vector<std::byte>& read = ReadAndRelease(*GetInL1(NameOf(0)), stream_);
    // No handle holds it, so it may go.
    ASSERT_TRUE(
        (erased ? store_->Erase(NameOf(0)) : store_->Evict(NameOf(0), Level::kL2Pinned)).ok());
    EXPECT_EQ(store_->Stats().l1.bytes_used, kSize);
    ExpectStatus(GetInL1(NameOf(1), absl::Milliseconds(20)).status(),
                 StatusCode::kResourceExhausted, "L1 is full");
    gate->Open();
    EXPECT_TRUE(Soon([&] { return store_->Stats().l1.bytes_used == 0; }));
    ASSERT_TRUE(device_->Synchronize(stream_).ok());
    EXPECT_TRUE(read == ContentOf(NameOf(0), kSize));
  }
}

TEST_F(ReleaseAfterTest, AStreamThatIsForgottenMayGo) {
  OpenSmall();
  const StreamRef brief = *device_->CreateStream();
  TensorHandle in_l2 = *store_->Get(NameOf(1), {});
  const auto gate = Hold(brief);
  const std::vector<std::byte>& read = ReadAndRelease(*GetFor(brief, NameOf(0)), brief);
  ASSERT_TRUE(in_l2.ReleaseAfter(brief).ok());
  ASSERT_TRUE(store_->ForgetStream(brief).ok());
  ASSERT_TRUE(store_->ForgetStream(stream_).ok()) << "of which there is nothing";
  ExpectStatus(store_->ForgetStream({.stream = nullptr, .device = 1}), StatusCode::kInvalidArgument,
               "GPU 1");
  gate->Open();
  device_->records = 0;
  ASSERT_TRUE(device_->DestroyStream(brief).ok());
  EXPECT_TRUE(read == ContentOf(NameOf(0), kSize));
  EXPECT_TRUE(Soon([&] { return store_->Evict(NameOf(1), Level::kL3Nvme).ok(); }));
  EXPECT_EQ(device_->records, 0);
}

TEST_F(ReleaseAfterTest, WhatADeviceRefusesToMarkIsFreeWhenItIsDone) {
  OpenSmall();
  TensorHandle in_l2 = *store_->Get(NameOf(1), {});
  device_->records_to_refuse = 1;
  ASSERT_TRUE(in_l2.ReleaseAfter(stream_).ok());
  EXPECT_TRUE(Soon([&] { return store_->Evict(NameOf(1), Level::kL3Nvme).ok(); }));
  EXPECT_EQ(device_->records_to_refuse, 0);
  // Neither is a copy made that nothing could order.
  const std::vector<std::byte>& read = ReadAndRelease(*GetFor(stream_, NameOf(0)), stream_);
  ASSERT_TRUE(device_->Synchronize(stream_).ok());
  EXPECT_TRUE(Soon([&] {
    const absl::StatusOr<TensorHandle> handle = GetFor(stream_, NameOf(1));
    return handle.ok();
  }));
  EXPECT_TRUE(read == ContentOf(NameOf(0), kSize));
}

// Close waits for no stream that reads; the end of the store does, as its memory goes.
TEST_F(ReleaseAfterTest, CloseAndTheEndWithAStreamThatIsLate) {
  OpenSmall();
  const auto gate = Hold(stream_);
  TensorHandle late = *GetFor(stream_, NameOf(0));
  const std::vector<std::byte>& read = ReadAndRelease(*GetFor(stream_, NameOf(0)), stream_);
  ASSERT_TRUE(store_->Close().ok());
  device_->records = 0;
  ASSERT_TRUE(late.ReleaseAfter(stream_).ok());
  EXPECT_EQ(device_->records, 1) << "nobody comes for it later";
  std::jthread opener([&] {
    SleepFor(std::chrono::milliseconds(20));
    gate->Open();
  });
  store_.reset();
  EXPECT_TRUE(read == ContentOf(NameOf(0), kSize));
  opener.join();
}

// Threads with streams of their own, more tensors than L1 has room for, and steps that come late.
TEST_F(ReleaseAfterTest, ManyStreamsReadWhatOthersPushOut) {
  for (const uint64_t seed : {1, 2, 3}) {
    options_.l1_bytes_max = 2 * kMiB;
    OpenL1(/*delay_us_max=*/300, seed);
    constexpr uint64_t kBytes = 200 * kKiB;
    for (int i = 0; i < 24; ++i) ASSERT_TRUE(Put(NameOf(i), kBytes).ok());
    std::vector<std::jthread> threads(3);
    for (size_t t = 0; t < threads.size(); ++t) {
      threads[t] = std::jthread([&, t] {
        std::mt19937_64 random(seed * 100 + t);
        const StreamRef stream = *device_->CreateStream();
        std::vector<std::pair<int, const std::vector<std::byte>*>> read;
        for (int i = 0; i < 60; ++i) {
          const int key = static_cast<int>(random() % 24);
          if (random() % 8 == 0) {
            EXPECT_TRUE(Put(NameOf(key), kBytes).ok());
          }
          if (random() % 8 == 0) store_->Evict(NameOf(key), Level::kL2Pinned).IgnoreError();
          absl::StatusOr<TensorHandle> handle =
              random() % 4 == 0 ? GetInL1(NameOf(key)) : GetFor(stream, NameOf(key));
          if (!handle.ok()) {
            ADD_FAILURE() << handle.status();
            continue;
          }
          read.emplace_back(key, &ReadAndRelease(*std::move(handle), stream));
        }
        EXPECT_TRUE(store_->ForgetStream(stream).ok());
        EXPECT_TRUE(device_->DestroyStream(stream).ok());
        for (const auto& [key, bytes] : read) EXPECT_TRUE(*bytes == ContentOf(NameOf(key), kBytes));
      });
    }
    for (std::jthread& thread : threads) thread.join();
    EXPECT_GT(store_->Stats().l1.evictions, 0u);
    store_.reset();
  }
}

// ---- Two GPUs, with an L1 of one tensor each ----

class GpusReleaseAfterTest : public ReleaseAfterTest {
 protected:
  static constexpr int kFirst = 1;
  static constexpr int kSecond = 0;

  void OpenBoth() {
    options_.gpus = {kFirst, kSecond};
    OpenSmall();
    other_ = *devices_.at(kSecond)->CreateStream();
  }
  // stream_ is of the first, this one of the second.
  StreamRef other_;
};

TEST_F(GpusReleaseAfterTest, EachHasItsOwnEvents) {
  OpenBoth();
  const auto gate = Hold(stream_);
  TensorHandle first_in_l2 = *store_->Get(NameOf(2), {});
  TensorHandle second_in_l2 = *store_->Get(NameOf(3), {});
  const std::vector<std::byte>& on_first = ReadAndRelease(*GetFor(stream_, NameOf(0)), stream_);
  const std::vector<std::byte>& on_second = ReadAndRelease(*GetFor(other_, NameOf(0)), other_);
  ASSERT_TRUE(first_in_l2.ReleaseAfter(stream_).ok());
  ASSERT_TRUE(second_in_l2.ReleaseAfter(other_).ok());
  ASSERT_TRUE(store_->ForgetStream(other_).ok());
  EXPECT_TRUE(Soon([&] { return store_->Evict(NameOf(3), Level::kL3Nvme).ok(); }));
  EXPECT_TRUE(on_second == ContentOf(NameOf(0), kSize));
  ExpectStatus(store_->Evict(NameOf(2), Level::kL3Nvme), StatusCode::kResourceExhausted, "pinned");
  ASSERT_TRUE(store_->ForgetStream(stream_).ok());
  devices_.at(kFirst)->records = devices_.at(kSecond)->records = 0;
  ASSERT_TRUE(GetFor(other_, NameOf(1))->ReleaseAfter(other_).ok());
  ASSERT_TRUE(store_->ForgetStream(other_).ok());
  EXPECT_EQ(devices_.at(kFirst)->records, 0);
  EXPECT_GT(devices_.at(kSecond)->records, 0);
  gate->Open();
  EXPECT_TRUE(Soon([&] { return store_->Evict(NameOf(2), Level::kL3Nvme).ok(); }));
  ASSERT_TRUE(devices_.at(kFirst)->Synchronize(stream_).ok());
  EXPECT_TRUE(on_first == ContentOf(NameOf(0), kSize));
}

// Its copies, its room and its pins come and go; even where the driver of the first has refused an
// event, and all that it does has to be waited for.
TEST_F(GpusReleaseAfterTest, AStreamThatStandsStillHoldsUpNothingOnTheOther) {
  OpenBoth();
  for (const bool refused : {false, true}) {
    const auto gate = Hold(stream_);
    TensorHandle handle = *GetFor(stream_, NameOf(0));
    devices_.at(kFirst)->records_to_refuse = refused ? 1 : 0;
    const std::vector<std::byte>& on_first = ReadAndRelease(std::move(handle), stream_);
    EXPECT_TRUE(Soon([&] { return devices_.at(kFirst)->records_to_refuse == 0; }));
    for (int round = 0; round < 3; ++round) {
      for (int key = 0; key < kKeys; ++key) {
        const std::vector<std::byte>& on_second =
            ReadAndRelease(*GetFor(other_, NameOf(key)), other_);
        ASSERT_TRUE(devices_.at(kSecond)->Synchronize(other_).ok());
        EXPECT_TRUE(on_second == ContentOf(NameOf(key), kSize)) << key;
      }
    }
    // What leaves there under a reader is free when that one has passed.
    ASSERT_TRUE(store_->Erase(NameOf(kKeys - 1)).ok());
    EXPECT_TRUE(Soon([&] { return store_->Stats().gpus[1].l1.bytes_used == 0; }));
    ASSERT_TRUE(Put(NameOf(kKeys - 1), kSize).ok());
    EXPECT_EQ(store_->Stats().gpus[0].l1.bytes_used, kSize);
    EXPECT_EQ(store_->Stats().gpus[0].l1.evictions, 0u);
    gate->Open();
    ASSERT_TRUE(devices_.at(kFirst)->Synchronize(stream_).ok());
    EXPECT_TRUE(on_first == ContentOf(NameOf(0), kSize));
  }
}

// No device waits for another's events: the pin stays until the host has seen the stream there.
TEST_F(GpusReleaseAfterTest, WhatAStreamOfTheOtherReadsStaysPinned) {
  OpenBoth();
  TensorHandle handle = *GetInL1(NameOf(0));
  const auto gate = Hold(other_);
  ASSERT_TRUE(handle.ReleaseAfter(other_).ok());
  ExpectStatus(store_->Evict(NameOf(0), Level::kL2Pinned), StatusCode::kResourceExhausted,
               "k0 is pinned in L1 of GPU 1");
  const GetOptions brief = {
      .want = Level::kL1Gpu, .timeout = absl::Milliseconds(20), .consumer = stream_};
  ExpectStatus(store_->Get(NameOf(1), brief).status(), StatusCode::kResourceExhausted,
               "L1 is full");
  // The second's own place is not concerned.
  ASSERT_TRUE(store_->Get(NameOf(1), {.want = Level::kL1Gpu, .gpu = kSecond}).ok());
  gate->Open();
  EXPECT_TRUE(GetFor(stream_, NameOf(1)).ok());
}

}  // namespace
}  // namespace cairn
