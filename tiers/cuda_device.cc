#include <cuda_runtime_api.h>

#include <thread>
#include <utility>

#include "absl/functional/function_ref.h"
#include "absl/strings/str_cat.h"
#include "tiers/device.h"

namespace cairn {
namespace {

// Larger registrations have been refused by drivers that take their parts.
constexpr size_t kPinPartBytesMax = size_t{64} << 30;

// Reads the error away, so that no later call of this thread reports it again.
absl::Status CudaStatus(cudaError_t error, const char* call) {
  (void)cudaGetLastError();
  const std::string message =
      absl::StrCat(call, ": ", cudaGetErrorString(error), " (", cudaGetErrorName(error), ")");
  switch (error) {
    case cudaErrorMemoryAllocation:
      return absl::ResourceExhaustedError(message);
    case cudaErrorInvalidValue:
    case cudaErrorHostMemoryAlreadyRegistered:
    case cudaErrorHostMemoryNotRegistered:
      return absl::InvalidArgumentError(message);
    default:
      return absl::UnavailableError(message);
  }
}

#define CAIRN_CUDA_RETURN_IF_ERROR(call)                                      \
  do {                                                                        \
    if (const cudaError_t cuda_error_ = (call); cuda_error_ != cudaSuccess) { \
      return CudaStatus(cuda_error_, #call);                                  \
    }                                                                         \
  } while (false)

class CudaDevice final : public Device {
 public:
  CudaDevice(int ordinal, std::string name) : ordinal_(ordinal), name_(std::move(name)) {}

  std::string name() const override { return name_; }
  bool is_gpu() const override { return true; }

  absl::Status PinMemory(absl::Span<std::byte> memory) override {
    return WithDevice([memory] { return Register(memory); });
  }

  absl::Status UnpinMemory(absl::Span<std::byte> memory) override {
    return WithDevice([memory] { return Unregister(memory); });
  }

 private:
  // The current device belongs to the thread, and setting it starts that device: the caller's
  // stays as it is, for the work is done on a thread of its own.
  absl::Status WithDevice(absl::FunctionRef<absl::Status()> work) const {
    absl::Status status;
    std::jthread thread([&] {
      status = [&]() -> absl::Status {
        CAIRN_CUDA_RETURN_IF_ERROR(cudaSetDevice(ordinal_));
        return work();
      }();
    });
    thread.join();
    return status;
  }

  // All of it or nothing.
  static absl::Status Register(absl::Span<std::byte> memory) {
    size_t pinned_bytes = 0;
    while (pinned_bytes < memory.size()) {
      const absl::Span<std::byte> part = memory.subspan(pinned_bytes, kPinPartBytesMax);
      if (absl::Status status = RegisterPart(part); !status.ok()) {
        (void)Unregister(memory.first(pinned_bytes));
        return status;
      }
      pinned_bytes += part.size();
    }
    return absl::OkStatus();
  }

  static absl::Status RegisterPart(absl::Span<std::byte> part) {
    // Portable: pinned for every GPU of the process, not for this one alone.
    CAIRN_CUDA_RETURN_IF_ERROR(
        cudaHostRegister(part.data(), part.size(), cudaHostRegisterPortable));
    return absl::OkStatus();
  }

  // Goes on over failures and reports the first.
  static absl::Status Unregister(absl::Span<std::byte> memory) {
    absl::Status first_failure;
    for (size_t offset = 0; offset < memory.size(); offset += kPinPartBytesMax) {
      first_failure.Update(UnregisterPart(memory.data() + offset));
    }
    return first_failure;
  }

  static absl::Status UnregisterPart(std::byte* part) {
    CAIRN_CUDA_RETURN_IF_ERROR(cudaHostUnregister(part));
    return absl::OkStatus();
  }

  const int ordinal_;
  const std::string name_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<Device>> OpenCudaDevice(int ordinal) {
  int count = 0;
  CAIRN_CUDA_RETURN_IF_ERROR(cudaGetDeviceCount(&count));
  if (ordinal < 0 || ordinal >= count) {
    return absl::UnavailableError(absl::StrCat("no GPU ", ordinal, ": the driver has ", count));
  }
  cudaDeviceProp properties;
  CAIRN_CUDA_RETURN_IF_ERROR(cudaGetDeviceProperties(&properties, ordinal));
  return std::make_unique<CudaDevice>(ordinal, properties.name);
}

}  // namespace cairn
