#pragma once

#include <cstdint>
#include <memory>

#include "absl/status/status.h"
#include "tiers/device.h"

namespace cairn {

struct HostDeviceOptions {
  int ordinal = 0;
  // Why there is no GPU.
  absl::Status gpu_status = absl::UnavailableError("the host was asked for");
  // Each step of a stream begins up to so much later, by the seed: orders that nobody asked for
  // come about. 0: at once.
  uint64_t delay_us_max = 0;
  uint64_t delay_seed = 0;
};

// The reference of Device: its arenas are mappings of host memory, and each stream is a thread of
// its own, started with the stream, that does one step after the other. Addresses on the device's
// side of a copy must lie in an arena of it.
std::unique_ptr<Device> NewHostDevice(const HostDeviceOptions& options);

}  // namespace cairn
