#include "tiers/device.h"

namespace cairn {
namespace {

// Without a GPU there is no driver to tell: memory is as good as it is.
class HostDevice final : public Device {
 public:
  std::string name() const override { return "host"; }
  bool is_gpu() const override { return false; }
  absl::Status PinMemory(absl::Span<std::byte> /*memory*/) override { return absl::OkStatus(); }
  absl::Status UnpinMemory(absl::Span<std::byte> /*memory*/) override { return absl::OkStatus(); }
};

}  // namespace

absl::StatusOr<std::unique_ptr<Device>> Device::Open(DeviceKind kind, int ordinal) {
  if (kind == DeviceKind::kHost) return NewHostDevice();
  absl::StatusOr<std::unique_ptr<Device>> device = OpenCudaDevice(ordinal);
  if (!device.ok() && kind == DeviceKind::kAuto) return NewHostDevice();
  return device;
}

std::unique_ptr<Device> NewHostDevice() { return std::make_unique<HostDevice>(); }

}  // namespace cairn
