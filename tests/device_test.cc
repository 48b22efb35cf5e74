#include "tiers/device.h"

#include <cstdint>
#include <memory>
#include <string>
#include <utility>

#include "gtest/gtest.h"
#include "tests/device_contract.h"
#include "tiers/host_device.h"

namespace cairn {
namespace {

std::string CaseName(const testing::TestParamInfo<DeviceCase>& info) { return info.param.name; }

DeviceCase HostCase(std::string name, uint64_t delay_us_max, uint64_t seed) {
  return {std::move(name),
          [=] { return NewHostDevice({.delay_us_max = delay_us_max, .delay_seed = seed}); }};
}

INSTANTIATE_TEST_SUITE_P(Host, DeviceContractTest,
                         testing::Values(HostCase("AtOnce", 0, 0), HostCase("Delayed", 300, 1),
                                         HostCase("DelayedOtherwise", 300, 1000)),
                         CaseName);
INSTANTIATE_TEST_SUITE_P(
    Gpu, DeviceContractTest,
    testing::Values(DeviceCase{"Cuda", [] { return Device::Open(DeviceKind::kCuda, 0); }},
                    DeviceCase{"Auto", [] { return Device::Open(DeviceKind::kAuto, 0); }}),
    CaseName);

TEST(DeviceTest, AGpuThatIsNotThereIsUnavailableWithAReason) {
  for (const int ordinal : {-1, 9999}) {
    const auto device = Device::Open(DeviceKind::kCuda, ordinal);
    EXPECT_EQ(device.status().code(), absl::StatusCode::kUnavailable);
    EXPECT_FALSE(device.status().message().empty());
  }
}

TEST(DeviceTest, AutoFallsToTheHostAndSaysWhy) {
  const auto device = Device::Open(DeviceKind::kAuto, 9999);
  ASSERT_TRUE(device.ok()) << device.status();
  EXPECT_FALSE((*device)->is_gpu());
  EXPECT_EQ((*device)->gpu_status().code(), absl::StatusCode::kUnavailable);
}

TEST(DeviceTest, AGpuRefusesToPinWhatIsPinned) {
  const auto device = Device::Open(DeviceKind::kCuda, 0);
  if (!device.ok()) GTEST_SKIP() << device.status();
  const auto arena = Arena::Create(uint64_t{2} << 20);
  ASSERT_TRUE(arena.ok());
  EXPECT_TRUE(absl::IsInvalidArgument((*device)->UnpinMemory((*arena)->memory())));
  EXPECT_TRUE((*device)->PinMemory((*arena)->memory()).ok());
  EXPECT_FALSE((*device)->PinMemory((*arena)->memory()).ok());
  EXPECT_TRUE((*device)->UnpinMemory((*arena)->memory()).ok());
}

// The reference must show an order that was forgotten: what it is asked for is not done in the
// call.
TEST(HostDeviceTest, WorkIsDoneLater) {
  const auto device = NewHostDevice({.delay_us_max = 20000, .delay_seed = 7});
  const StreamRef stream = *device->CreateStream();
  int later = 0;
  for (int round = 0; round < 20; ++round) {
    const auto event = device->Record(stream);
    ASSERT_TRUE(event.ok());
    if (!*(*event)->Reached()) ++later;
    ASSERT_TRUE((*event)->Wait().ok());
  }
  EXPECT_GT(later, 0);
}

TEST(HostDeviceTest, AddressesThatAreNotTheDevicesAreRefused) {
  const auto device = NewHostDevice({});
  const auto arena = device->AllocateArena(4096);
  ASSERT_TRUE(arena.ok());
  const StreamRef stream = *device->CreateStream();
  std::byte bytes[8192] = {};
  const CopyPiece foreign = {bytes, bytes + 4096, 4096};
  const CopyPiece too_long = {arena->data(), bytes, 4u << 20};
  for (const auto& [piece, direction] :
       {std::pair(foreign, CopyDirection::kToDevice), std::pair(foreign, CopyDirection::kToHost),
        std::pair(too_long, CopyDirection::kToDevice)}) {
    EXPECT_TRUE(absl::IsInvalidArgument(device->Copy(stream, direction, {&piece, 1})));
  }
  int other = 0;
  EXPECT_TRUE(absl::IsInvalidArgument(device->Synchronize({.stream = &other, .device = 0})));
}

}  // namespace
}  // namespace cairn
