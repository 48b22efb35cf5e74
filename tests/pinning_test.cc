// L2 is pinned for a GPU chunk by chunk, on a thread of its own, while it is in use. A device that
// poses as a GPU is its driver here: it says when each chunk is pinned, and which is refused.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <cstring>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "src/base/mutex.h"
#include "src/base/strings.h"
#include "tests/allocator_kinds.h"
#include "tests/faulty_device.h"
#include "tests/l1_fixture.h"
#include "tiers/host_device.h"
#include "tiers/pinned_tier.h"

namespace cairn {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

constexpr uint64_t kChunkBytes = 4 * kMiB;

class PinningTest : public testing::TestWithParam<AllocatorKind> {
 protected:
  PinningTest() { device_.poses_as_gpu = true; }

  void Create(uint64_t bytes) {
    auto tier = PinnedTier::Create(bytes, &device_,
                                   {.allocator = GetParam(), .pin_chunk_bytes = kChunkBytes});
    ASSERT_TRUE(tier.ok()) << tier.status();
    tier_ = *std::move(tier);
  }
  // Until all is pinned or a chunk is refused.
  absl::Status PinAll() {
    absl::Status ended;
    Gate gate;
    tier_->StartPinning([&](const absl::Status& status) {
      ended = status;
      gate.Open();
    });
    gate.Pass();
    return ended;
  }
  void RefuseFrom(int pin) {
    device_.before_pin = [this, pin](absl::Span<std::byte>) {
      return device_.pins < pin ? absl::OkStatus() : absl::UnavailableError("the driver is full");
    };
  }
  std::vector<Extent> Fill(uint64_t bytes) {
    std::vector<Extent> extents;
    for (auto extent = tier_->Reserve(bytes); extent.ok(); extent = tier_->Reserve(bytes)) {
      extents.push_back(*extent);
    }
    return extents;
  }

  FaultyDevice device_{NewHostDevice({})};
  std::unique_ptr<PinnedTier> tier_;
};

TEST_P(PinningTest, TheArenaIsPinnedChunkByChunkAndUnpinnedSo) {
  Create(3 * kChunkBytes + kChunkBytes / 2);
  EXPECT_EQ(tier_->bytes_pinned(), 0U);
  EXPECT_EQ(device_.pins, 0);
  ASSERT_TRUE(PinAll().ok());
  EXPECT_EQ(tier_->bytes_pinned(), tier_->bytes_max());
  const std::byte* next = tier_->arena().base();
  ASSERT_THAT(device_.pinned(), SizeIs(4));
  for (const absl::Span<std::byte> chunk : device_.pinned()) {
    EXPECT_EQ(chunk.data(), next);
    EXPECT_LE(chunk.size(), kChunkBytes);
    next += chunk.size();
  }
  EXPECT_EQ(next, tier_->arena().base() + tier_->arena().bytes());
  tier_.reset();
  EXPECT_THAT(device_.pinned(), IsEmpty());
}

TEST_P(PinningTest, NothingLiesAcrossTwoChunks) {
  Create(4 * kChunkBytes);
  EXPECT_EQ(tier_->bytes_used(), 0U);
  for (const uint64_t bytes : {kChunkBytes / 4 * 3, kChunkBytes / 8, uint64_t{20'000}}) {
    const std::vector<Extent> extents = Fill(bytes);
    EXPECT_THAT(extents, testing::Not(IsEmpty()));
    for (const Extent& extent : extents) {
      EXPECT_EQ(extent.offset / kChunkBytes, (extent.offset + extent.bytes - 1) / kChunkBytes)
          << extent.offset << " + " << extent.bytes;
      tier_->Release(extent);
    }
    EXPECT_EQ(tier_->bytes_used(), 0U);
  }
}

TEST_P(PinningTest, TheTierServesWhileAChunkIsBeingPinned) {
  Create(4 * kChunkBytes);
  Gate second;
  Gate pin_second;
  device_.before_pin = [&](absl::Span<std::byte>) {
    if (device_.pins == 2) {
      second.Open();
      pin_second.Pass();
    }
    return absl::OkStatus();
  };
  Gate ended;
  tier_->StartPinning([&](const absl::Status&) { ended.Open(); });
  second.Pass();
  EXPECT_EQ(tier_->bytes_pinned(), kChunkBytes);
  EXPECT_TRUE(tier_->kept_by_gpu());
  const std::vector<Extent> extents = Fill(kChunkBytes / 2);
  int pinned = 0;
  for (const Extent& extent : extents) {
    std::memset(tier_->Address(extent), 1, extent.bytes);
    EXPECT_EQ(tier_->is_pinned(extent), extent.offset < kChunkBytes);
    pinned += tier_->is_pinned(extent) ? 1 : 0;
  }
  EXPECT_GT(pinned, 0);
  EXPECT_LT(static_cast<size_t>(pinned), extents.size());
  pin_second.Open();
  ended.Pass();
  for (const Extent& extent : extents) {
    EXPECT_TRUE(tier_->is_pinned(extent));
    EXPECT_EQ(*tier_->Address(extent), std::byte{1});
  }
}

TEST_P(PinningTest, ARefusedChunkEndsItAndWhatIsPinnedStays) {
  Create(4 * kChunkBytes);
  RefuseFrom(3);
  const std::string message(ToStd(PinAll().message()));
  EXPECT_THAT(message, HasSubstr(absl::StrCat(2 * kChunkBytes, " of ", 4 * kChunkBytes)));
  EXPECT_THAT(message, HasSubstr("the driver is full"));
  EXPECT_EQ(ToStd(tier_->pin_status().message()), message);
  EXPECT_EQ(device_.pins, 3);
  EXPECT_THAT(device_.pinned(), SizeIs(2));
  EXPECT_EQ(tier_->bytes_pinned(), 2 * kChunkBytes);
  EXPECT_TRUE(tier_->kept_by_gpu());
  tier_.reset();
  EXPECT_THAT(device_.pinned(), IsEmpty());
}

TEST_P(PinningTest, WhatTheDriverTakesNothingOfIsTheSystemsAgain) {
  Create(4 * kChunkBytes);
  EXPECT_TRUE(tier_->kept_by_gpu());
  RefuseFrom(1);
  EXPECT_FALSE(PinAll().ok());
  EXPECT_FALSE(tier_->kept_by_gpu());
  EXPECT_EQ(tier_->bytes_used(), 0U);
  // Nothing is kept apart any more.
  const absl::StatusOr<Extent> all = tier_->Reserve(4 * kChunkBytes);
  ASSERT_TRUE(all.ok()) << all.status();
  tier_->Release(*all);
}

TEST_P(PinningTest, ItEndsAfterTheChunkUnderWay) {
  Create(4 * kChunkBytes);
  Gate second;
  device_.before_pin = [&](absl::Span<std::byte>) {
    if (device_.pins == 2) {
      tier_->EndPinning();
      second.Open();
    }
    return absl::OkStatus();
  };
  bool told = false;
  tier_->StartPinning([&](const absl::Status&) { told = true; });
  second.Pass();
  tier_->StopPinning();
  EXPECT_FALSE(told);
  EXPECT_EQ(device_.pins, 2);
  EXPECT_EQ(tier_->bytes_pinned(), 2 * kChunkBytes);
  tier_.reset();
  EXPECT_THAT(device_.pinned(), IsEmpty());
}

TEST_P(PinningTest, TheHostNeedsNothingPinned) {
  device_.poses_as_gpu = false;
  Create(4 * kChunkBytes);
  tier_->StartPinning([](const absl::Status&) { ADD_FAILURE() << "nothing was begun"; });
  tier_->StopPinning();
  EXPECT_EQ(device_.pins, 0);
  EXPECT_FALSE(tier_->kept_by_gpu());
  EXPECT_TRUE(tier_->Reserve(4 * kChunkBytes).ok());
}

INSTANTIATE_TEST_SUITE_P(Allocators, PinningTest,
                         testing::Values(AllocatorKind::kHybrid, AllocatorKind::kBuddy,
                                         AllocatorKind::kBestFit),
                         NameOfKind);

// The same in a store: L2 of 16 MiB in four chunks.
class StorePinningTest : public L1Test {
 protected:
  void OpenPinning(std::function<absl::Status(int pin)> before_pin, StoreSeams seams = {}) {
    seams.l2_pin_chunk_bytes = kChunkBytes;
    seams.open_device = [this, before_pin = std::move(before_pin)](
                            DeviceKind, int ordinal) -> absl::StatusOr<std::unique_ptr<Device>> {
      auto device = std::make_unique<FaultyDevice>(NewHostDevice({.ordinal = ordinal}));
      device_ = device.get();
      device_->poses_as_gpu = true;
      device_->before_pin = [before_pin, device = device_](absl::Span<std::byte>) {
        return before_pin(device->pins);
      };
      return device;
    };
    Open(std::move(seams));
  }
  // Bounded by the test's own time alone.
  void Await(const std::function<bool(const StatsSnapshot&)>& condition) {
    while (!condition(store_->Stats())) std::this_thread::sleep_for(std::chrono::milliseconds(2));
  }
  static std::string Key(int number) { return absl::StrCat("t", number); }
  void PutAndGet(int count) {
    for (int i = 0; i < count; ++i) ASSERT_TRUE(Put(Key(i), kTensorBytes).ok()) << i;
    for (int i = 0; i < count; ++i) {
      Expect(Key(i), kTensorBytes);
      const absl::StatusOr<TensorHandle> handle = GetInL1(Key(i));
      ASSERT_TRUE(handle.ok()) << handle.status();
      EXPECT_TRUE(Matches(*handle, Key(i), kTensorBytes)) << i;
    }
  }

  static constexpr uint64_t kTensorBytes = 3 * kMiB / 2;
};

TEST_F(StorePinningTest, ServesFromOpenOnAndIsPinnedMeanwhile) {
  Gate pin;
  OpenPinning([&](int number) {
    if (number == 2) pin.Pass();
    return absl::OkStatus();
  });
  Await([](const StatsSnapshot& stats) { return stats.l2_bytes_pinned == kChunkBytes; });
  PutAndGet(12);
  int handles_pinned = 0;
  int handles_unpinned = 0;
  for (int i = 0; i < 12; ++i) {
    const absl::StatusOr<TensorHandle> handle = store_->Get(Key(i), {});
    ASSERT_TRUE(handle.ok()) << handle.status();
    ++(handle->view().kind == MemoryKind::kHostPinned ? handles_pinned : handles_unpinned);
  }
  EXPECT_GT(handles_pinned, 0);
  EXPECT_GT(handles_unpinned, 0);
  EXPECT_EQ(store_->Stats().l2_bytes_pinned, kChunkBytes);
  pin.Open();
  Await([](const StatsSnapshot& stats) { return stats.l2_bytes_pinned == 4 * kChunkBytes; });
  PutAndGet(12);
  EXPECT_EQ(store_->Get(Key(11), {})->view().kind, MemoryKind::kHostPinned);
  EXPECT_EQ(device_->copies_across, 0);
  EXPECT_EQ(store_->Stats().l2_pin_refusal, "");
  EXPECT_NE(store_->Stats().pressure.l2_kept_because, "");
  EXPECT_THAT(store_->Stats().ToJson(), HasSubstr("\"l2_bytes_pinned\": 16777216"));
  Close();
}

TEST_F(StorePinningTest, ARefusalIsSaidAndWhatIsPinnedStays) {
  OpenPinning([](int number) {
    return number < 3 ? absl::OkStatus() : absl::ResourceExhaustedError("no more");
  });
  Await([](const StatsSnapshot& stats) { return !stats.l2_pin_refusal.empty(); });
  const StatsSnapshot stats = store_->Stats();
  EXPECT_EQ(stats.l2_bytes_pinned, 2 * kChunkBytes);
  EXPECT_THAT(stats.l2_pin_refusal, HasSubstr("8388608 of 16777216 bytes are pinned: no more"));
  EXPECT_NE(stats.pressure.l2_kept_because, "");
  PutAndGet(12);
  EXPECT_EQ(device_->copies_across, 0);
  Close();
  const MutexLock lock(log_mutex_);
  EXPECT_THAT(log_, ::testing::Contains(HasSubstr(stats.l2_pin_refusal)));
}

TEST_F(StorePinningTest, WhatWasRefusedWholeCanBeGivenBack) {
  OpenPinning([](int) { return absl::ResourceExhaustedError("none"); });
  Await([](const StatsSnapshot& stats) { return stats.pressure.l2_kept_because.empty(); });
  EXPECT_EQ(store_->Stats().l2_bytes_pinned, 0U);
  PutAndGet(12);
}

// Close ends with a flush; only then the chunk that was under way when it began is pinned.
TEST_F(StorePinningTest, CloseBeginsNoChunkAndAHandleKeepsWhatIsPinned) {
  Gate begun;
  Gate pin;
  std::atomic<bool> closing = false;
  StoreSeams seams;
  seams.flush_file = [&](int) {
    if (closing) pin.Open();
    return 0;
  };
  OpenPinning(
      [&](int number) {
        if (number == 2) {
          begun.Open();
          pin.Pass();
        }
        return absl::OkStatus();
      },
      std::move(seams));
  begun.Pass();
  ASSERT_TRUE(Put("kept", kTensorBytes).ok());
  absl::StatusOr<TensorHandle> handle = store_->Get("kept", {});
  ASSERT_TRUE(handle.ok()) << handle.status();
  closing = true;
  Close();
  EXPECT_EQ(device_->pins, 2);
  EXPECT_THAT(device_->pinned(), SizeIs(2));
  const std::vector<std::byte> expected = ContentOf("kept", kTensorBytes);
  EXPECT_EQ(std::memcmp(handle->view().data, expected.data(), kTensorBytes), 0);
}

}  // namespace
}  // namespace cairn
