#include "tiers/device.h"

namespace cairn {

absl::StatusOr<std::unique_ptr<Device>> OpenCudaDevice(int /*ordinal*/) {
  return absl::UnavailableError("built without the CUDA toolkit");
}

}  // namespace cairn
