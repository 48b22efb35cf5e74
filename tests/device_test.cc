#include "tiers/device.h"

#include <cstdint>
#include <cstring>
#include <memory>
#include <string>

#include "gtest/gtest.h"
#include "tiers/arena.h"

namespace cairn {
namespace {

// What every device promises; a GPU that does not answer is skipped with its reason.
class DeviceContractTest : public testing::TestWithParam<DeviceKind> {
 protected:
  void SetUp() override {
    auto device = Device::Open(GetParam(), 0);
    if (!device.ok() && GetParam() == DeviceKind::kCuda) {
      ASSERT_EQ(device.status().code(), absl::StatusCode::kUnavailable);
      GTEST_SKIP() << device.status();
    }
    ASSERT_TRUE(device.ok()) << device.status();
    device_ = std::move(*device);

    auto arena = Arena::Create(uint64_t{8} << 20);
    ASSERT_TRUE(arena.ok()) << arena.status();
    arena_ = std::move(*arena);
  }

  std::unique_ptr<Arena> arena_;
  std::unique_ptr<Device> device_;
};

TEST_P(DeviceContractTest, SaysWhatItIs) {
  EXPECT_FALSE(device_->name().empty());
  if (GetParam() == DeviceKind::kHost) {
    EXPECT_EQ(device_->name(), "host");
    EXPECT_FALSE(device_->is_gpu());
  }
  if (GetParam() == DeviceKind::kCuda) {
    EXPECT_TRUE(device_->is_gpu());
  }
}

TEST_P(DeviceContractTest, PinnedMemoryKeepsItsBytes) {
  const absl::Span<std::byte> memory = arena_->memory();
  std::memset(memory.data(), 0x5a, memory.size() / 2);
  ASSERT_TRUE(device_->PinMemory(memory).ok());
  EXPECT_EQ(memory[0], std::byte{0x5a});
  EXPECT_EQ(memory[memory.size() - 1], std::byte{0});
  memory[memory.size() - 1] = std::byte{1};
  ASSERT_TRUE(device_->UnpinMemory(memory).ok());
  EXPECT_EQ(memory[memory.size() - 1], std::byte{1});
}

TEST_P(DeviceContractTest, PinsAgainAfterUnpinning) {
  const absl::Span<std::byte> memory = arena_->memory().first(uint64_t{2} << 20);
  for (int round = 0; round < 3; ++round) {
    const absl::Status pinned = device_->PinMemory(memory);
    ASSERT_TRUE(pinned.ok()) << pinned;
    const absl::Status unpinned = device_->UnpinMemory(memory);
    ASSERT_TRUE(unpinned.ok()) << unpinned;
  }
}

TEST_P(DeviceContractTest, AFailureLeavesNothingBehind) {
  if (!device_->is_gpu()) return;  // The host has nothing to refuse.
  EXPECT_EQ(device_->UnpinMemory(arena_->memory()).code(), absl::StatusCode::kInvalidArgument);
  EXPECT_TRUE(device_->PinMemory(arena_->memory()).ok());
  EXPECT_FALSE(device_->PinMemory(arena_->memory()).ok());
  EXPECT_TRUE(device_->UnpinMemory(arena_->memory()).ok());
}

std::string KindName(const testing::TestParamInfo<DeviceKind>& info) {
  switch (info.param) {
    case DeviceKind::kAuto:
      return "Auto";
    case DeviceKind::kCuda:
      return "Cuda";
    case DeviceKind::kHost:
      return "Host";
  }
  return "Unknown";
}

INSTANTIATE_TEST_SUITE_P(Kinds, DeviceContractTest,
                         testing::Values(DeviceKind::kHost, DeviceKind::kAuto, DeviceKind::kCuda),
                         KindName);

TEST(DeviceTest, AGpuThatIsNotThereIsUnavailableWithAReason) {
  for (const int ordinal : {-1, 9999}) {
    const auto device = Device::Open(DeviceKind::kCuda, ordinal);
    EXPECT_EQ(device.status().code(), absl::StatusCode::kUnavailable);
    EXPECT_FALSE(device.status().message().empty());
  }
}

TEST(DeviceTest, AutoFallsToTheHost) {
  const auto device = Device::Open(DeviceKind::kAuto, 9999);
  ASSERT_TRUE(device.ok()) << device.status();
  EXPECT_FALSE((*device)->is_gpu());
}

}  // namespace
}  // namespace cairn
