#pragma once

#include <gtest/gtest.h>

#include <cstdint>
#include <cstdlib>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "src/base/clock.h"
#include "src/base/thread.h"
#include "tests/faulty_device.h"
#include "tests/store_fixture.h"
#include "tiers/host_device.h"

namespace cairn {

// What the suite runs on: CAIRN_TEST_DEVICE=cuda: a GPU, which has no delays to choose.
inline bool TestsGpu() {
  const char* name = std::getenv("CAIRN_TEST_DEVICE");
  return name != nullptr && std::string_view(name) == "cuda";
}

// A store with an L1 of 4 MiB on each device of the test's, which are HostDevices, whose steps come
// late by a seed.
class L1Test : public StoreTest {
 protected:
  L1Test() {
    options_.l1_bytes_max = 4 * kMiB;
    options_.l2_bytes_max = 16 * kMiB;
    options_.l3_bytes_max = 96 * kMiB;
  }

  void OpenL1(uint64_t delay_us_max = 0, uint64_t seed = 1) {
    StoreSeams seams;
    seams.open_device = [=, this](DeviceKind,
                                  int ordinal) -> absl::StatusOr<std::unique_ptr<Device>> {
      absl::StatusOr<std::unique_ptr<Device>> inner =
          TestsGpu() ? Device::Open(DeviceKind::kCuda, ordinal)
                     : NewHostDevice(
                           {.ordinal = ordinal, .delay_us_max = delay_us_max, .delay_seed = seed});
      if (!inner.ok()) return inner;
      auto device = std::make_unique<FaultyDevice>(*std::move(inner));
      device->poses_as_gpu = poses_as_gpu_;
      devices_[ordinal] = device.get();
      return device;
    };
    Open(std::move(seams));
    device_ = devices_[options_.gpus.front()];
  }

  absl::StatusOr<TensorHandle> GetInL1(std::string_view key,
                                       absl::Duration timeout = absl::Seconds(30)) {
    return store_->Get(key, {.want = Level::kL1Gpu, .timeout = timeout});
  }
  static bool Matches(const TensorHandle& handle, std::string_view key, uint64_t size,
                      uint64_t version = 0) {
    if (handle.view().size != size) return false;
    std::vector<std::byte> bytes(size);
    const absl::Status copied = handle.CopyTo(absl::MakeSpan(bytes));
    EXPECT_TRUE(copied.ok()) << copied;
    return bytes == ContentOf(key, size, version);
  }
  // Gets it in L1, compares every byte, and that it was found at `found_at`.
  void ExpectInL1(std::string_view key, uint64_t size, Level found_at, uint64_t version = 0) {
    const absl::StatusOr<TensorHandle> handle = GetInL1(key);
    ASSERT_TRUE(handle.ok()) << key << ": " << handle.status();
    EXPECT_EQ(handle->level(), Level::kL1Gpu);
    EXPECT_EQ(handle->found_at(), found_at) << key;
    EXPECT_TRUE(Matches(*handle, key, size, version)) << key << " has other bytes";
  }
  bool IsInL1(std::string_view key) { return store_->Describe(key)->in_l1; }
  bool IsInL2(std::string_view key) { return store_->Describe(key)->in_l2; }

  FaultyDevice* device_ = nullptr;  // The first, and all by their ordinals.
  std::map<int, FaultyDevice*> devices_;
  bool poses_as_gpu_ = false;
};

}  // namespace cairn
