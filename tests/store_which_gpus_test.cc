// Which of the GPUs that StoreOptions::gpus names answer, and what each is to the store.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <memory>
#include <utility>
#include <vector>

#include "tests/gpus_fixture.h"

namespace cairn {
namespace {

using absl::StatusCode;
using ::testing::IsEmpty;

class WhichGpusTest : public GpusTest {
 protected:
  // Those devices answer as GPUs, the others not.
  absl::Status OpenWith(const std::vector<int>& answering) {
    StoreSeams seams;
    seams.read_pressure = [] { return PressureReadings(); };
    seams.open_device = [=, this](DeviceKind,
                                  int ordinal) -> absl::StatusOr<std::unique_ptr<Device>> {
      auto device = std::make_unique<FaultyDevice>(NewHostDevice(
          {.ordinal = ordinal, .gpu_status = absl::UnavailableError("no such device")}));
      device->poses_as_gpu =
          std::find(answering.begin(), answering.end(), ordinal) != answering.end();
      devices_[ordinal] = device.get();
      return device;
    };
    absl::StatusOr<std::unique_ptr<Store>> store = OpenStore(options_, std::move(seams));
    if (store.ok()) store_ = *std::move(store);
    return store.status();
  }
};

TEST_F(WhichGpusTest, WhereSomeAnswerAllMust) {
  ExpectStatus(OpenWith({kFirst}), StatusCode::kUnavailable,
               "GPU 0 of StoreOptions::gpus does not answer, and others do: no such device");
  ExpectStatus(OpenWith({kSecond}), StatusCode::kUnavailable, "GPU 1");
  EXPECT_FALSE(std::filesystem::exists(directory_));
  EXPECT_TRUE(OpenWith({}).ok());
}

TEST_F(WhichGpusTest, L2IsPinnedOnceForAll) {
  ASSERT_TRUE(OpenWith({kFirst, kSecond}).ok());
  while (store_->Stats().l2_bytes_pinned < options_.l2_bytes_max) {
    SleepFor(std::chrono::milliseconds(1));
  }
  EXPECT_GT(devices_[kFirst]->pins, 0);
  EXPECT_EQ(devices_[kSecond]->pins, 0);
  ASSERT_TRUE(Put("k", 5000).ok());
  const TensorHandle handle = *GetOn(kSecond, "k");
  EXPECT_EQ(handle.view().kind, MemoryKind::kGpu);
  EXPECT_EQ(handle.view().device, kSecond);
}

// Without an L1 the streams of each may release what lies in L2.
TEST_F(WhichGpusTest, StreamsOfEachReleaseWithoutAnL1) {
  options_.l1_bytes_max = 0;
  ASSERT_TRUE(OpenWith({}).ok());
  ASSERT_TRUE(Put("k", 5000).ok());
  for (const int gpu : {kFirst, kSecond}) {
    TensorHandle handle = *store_->Get("k", {});
    EXPECT_TRUE(handle.ReleaseAfter({.stream = nullptr, .device = gpu}).ok());
  }
  EXPECT_THAT(store_->Stats().gpus, IsEmpty());
  ExpectStatus(GetOn(kSecond, "k").status(), StatusCode::kInvalidArgument, "l1_bytes_max is 0");
}

}  // namespace
}  // namespace cairn
