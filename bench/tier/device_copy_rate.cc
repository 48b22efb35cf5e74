#include "bench/tier/device_copy_rate.h"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <deque>
#include <memory>

#include "src/base/status_macros.h"
#include "tiers/arena.h"
#include "tiers/device.h"

namespace cairn::bench {
namespace {

constexpr uint64_t kDeviceSourceBytesMax = uint64_t{256} << 20;
constexpr std::chrono::milliseconds kDeviceCopyTime(500);

}  // namespace

absl::StatusOr<double> MeasureDeviceCopies(uint64_t block_bytes, uint64_t size, uint32_t depth) {
  using Clock = std::chrono::steady_clock;
  CAIRN_ASSIGN_OR_RETURN(const std::unique_ptr<Device> device, Device::Open(DeviceKind::kAuto, 0));
  const uint64_t blocks =
      std::max<uint64_t>(1, std::min(size, kDeviceSourceBytesMax) / block_bytes);
  CAIRN_ASSIGN_OR_RETURN(const std::unique_ptr<Arena> source, Arena::Create(blocks * block_bytes));
  std::memset(source->base(), 1, source->bytes());
  CAIRN_RETURN_IF_ERROR(device->PinMemory(source->memory()));
  CAIRN_ASSIGN_OR_RETURN(const absl::Span<std::byte> targets,
                         device->AllocateArena(depth * block_bytes));
  CAIRN_ASSIGN_OR_RETURN(const StreamRef stream, device->CreateStream());

  std::deque<std::shared_ptr<DeviceEvent>> under_way;
  uint64_t copied = 0;
  const Clock::time_point begin = Clock::now();
  while (Clock::now() < begin + kDeviceCopyTime) {
    const uint64_t number = copied + under_way.size();
    const CopyPiece piece = {targets.data() + number % depth * block_bytes,
                             source->base() + number % blocks * block_bytes, block_bytes};
    CAIRN_RETURN_IF_ERROR(device->Copy(stream, CopyDirection::kToDevice, {&piece, 1}));
    CAIRN_ASSIGN_OR_RETURN(under_way.emplace_back(), device->Record(stream));
    if (under_way.size() < depth) continue;
    CAIRN_RETURN_IF_ERROR(under_way.front()->Wait());
    under_way.pop_front();
    ++copied;
  }
  const double seconds = std::chrono::duration<double>(Clock::now() - begin).count();
  under_way.clear();
  CAIRN_RETURN_IF_ERROR(device->DestroyStream(stream));
  CAIRN_RETURN_IF_ERROR(device->FreeArena(targets));
  CAIRN_RETURN_IF_ERROR(device->UnpinMemory(source->memory()));
  return static_cast<double>(copied * block_bytes) / seconds;
}

}  // namespace cairn::bench
