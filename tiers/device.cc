#include "tiers/device.h"

#include "absl/strings/str_cat.h"
#include "tiers/host_device.h"

namespace cairn {

absl::StatusOr<std::unique_ptr<Device>> Device::Open(DeviceKind kind, int ordinal) {
  if (kind == DeviceKind::kHost) return NewHostDevice({.ordinal = ordinal});
  absl::StatusOr<std::unique_ptr<Device>> device = OpenCudaDevice(ordinal);
  if (device.ok()) return device;
  if (kind == DeviceKind::kCuda) {
    return absl::Status(device.status().code(),
                        absl::StrCat("GPU ", ordinal, " was asked for: ", device.status().message(),
                                     "; DeviceKind::kAuto takes host memory where there is none"));
  }
  return NewHostDevice({.ordinal = ordinal, .gpu_status = device.status()});
}

absl::Status ValidateCopy(absl::Span<const CopyPiece> pieces) {
  for (size_t i = 0; i < pieces.size(); ++i) {
    const CopyPiece& piece = pieces[i];
    if (piece.target != nullptr && piece.source != nullptr && piece.bytes > 0) continue;
    return absl::InvalidArgumentError(
        absl::StrCat("piece ", i, " of ", pieces.size(), " to copy has no address, or no bytes"));
  }
  return absl::OkStatus();
}

absl::Status ValidateCopy(const StridedCopy& copy) {
  if (copy.target == nullptr || copy.source == nullptr || copy.row_bytes == 0 || copy.rows == 0) {
    return absl::InvalidArgumentError("rows to copy have no address, or no bytes");
  }
  if (copy.target_pitch < copy.row_bytes || copy.source_pitch < copy.row_bytes ||
      copy.target_pitch > kPitchMax || copy.source_pitch > kPitchMax) {
    return absl::InvalidArgumentError(absl::StrCat("rows of ", copy.row_bytes,
                                                   " bytes do not fit their pitches of ",
                                                   copy.target_pitch, " and ", copy.source_pitch));
  }
  return absl::OkStatus();
}

absl::Status ValidateStream(StreamRef stream, int ordinal) {
  if (stream.device == ordinal) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("the stream is of GPU ", stream.device, ", not of ", ordinal));
}

}  // namespace cairn
