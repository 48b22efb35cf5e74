#pragma once

#include <cstddef>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "cairn/options.h"

namespace cairn {

// The accelerator beside the host, as far as Cairn uses it: it pins L2, so that the caller's
// copies from a handle's bytes to the GPU are asynchronous and need no staging. Thread-safe.
//
// CudaDevice where the build has the toolkit and a driver answers, else HostDevice.
class Device {
 public:
  // kAuto falls to the host; kCuda says kUnavailable with the driver's reason.
  static absl::StatusOr<std::unique_ptr<Device>> Open(DeviceKind kind, int ordinal);
  virtual ~Device() = default;

  virtual std::string name() const = 0;  // "host", or the GPU's.
  virtual bool is_gpu() const = 0;

  // Makes host memory page-locked and known to the driver. HostDevice: OK, nothing to do.
  virtual absl::Status PinMemory(absl::Span<std::byte> memory) = 0;
  virtual absl::Status UnpinMemory(absl::Span<std::byte> memory) = 0;

 protected:
  Device() = default;
};

// The two kinds; cuda_device_absent.cc stands in for cuda_device.cc where the toolkit is missing.
std::unique_ptr<Device> NewHostDevice();
absl::StatusOr<std::unique_ptr<Device>> OpenCudaDevice(int ordinal);

}  // namespace cairn
