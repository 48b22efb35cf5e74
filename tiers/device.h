#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "cairn/machine.h"
#include "cairn/options.h"
#include "cairn/tensor.h"

namespace cairn {

enum class CopyDirection : uint8_t { kToDevice, kToHost, kWithinDevice };

// One run of bytes to copy. A KV block is often one slice per layer: then a copy is a list of them.
struct CopyPiece {
  std::byte* target = nullptr;
  const std::byte* source = nullptr;
  uint64_t bytes = 0;
};

// The largest pitch that every GPU takes: cudaDevAttrMaxPitch.
inline constexpr uint64_t kPitchMax = (uint64_t{1} << 31) - 1;

// Rows of one length, each `pitch` bytes behind the one before: a layer's slices of many blocks.
struct StridedCopy {
  std::byte* target = nullptr;
  uint64_t target_pitch = 0;  // From row_bytes to kPitchMax, as is the other.
  const std::byte* source = nullptr;
  uint64_t source_pitch = 0;
  uint64_t row_bytes = 0;
  uint64_t rows = 0;
};

struct DeviceMemory {
  uint64_t bytes = 0;
  uint64_t bytes_free = 0;
};

struct DeviceProperties {
  GpuProperties gpu;        // Without its link to the host, which the system knows.
  std::string pci_address;  // "0000:01:00.0", as the system names it.
};

// A point in a stream's work. Thread-safe.
class DeviceEvent {
 public:
  virtual ~DeviceEvent() = default;
  // Whether the stream has come here. Never blocks.
  virtual absl::StatusOr<bool> Reached() const = 0;
  // Blocks the calling thread until it has.
  virtual absl::Status Wait() const = 0;

 protected:
  DeviceEvent() = default;
};

// The accelerator beside the host, as far as Cairn uses it: memory of its own in one arena, copies
// between that and the host's memory, and streams and events that order them with the work of
// others. A stream does what it is given in order; two streams are ordered by events alone. Nothing
// blocks the calling thread but what says so. A copy from pageable memory may read its source
// before the call returns, or later: the source must stay as it is until the copy has been done.
//
// CudaDevice where the build has the toolkit and a driver answers, else HostDevice: memory of the
// host, and a thread for each stream, so that an order that was forgotten shows there too.
//
// Thread-safe. kInvalidArgument: the caller's mistake; kResourceExhausted: no memory; kUnavailable:
// the driver refused, with the call's name and the reason.
class Device {
 public:
  // kAuto falls to the host; kCuda says kUnavailable with the driver's reason.
  static absl::StatusOr<std::unique_ptr<Device>> Open(DeviceKind kind, int ordinal);
  virtual ~Device() = default;

  virtual std::string name() const = 0;  // "host", or the GPU's.
  virtual bool is_gpu() const = 0;
  virtual int ordinal() const = 0;
  // Of a device that is none: why the host stands in. Else OK.
  virtual absl::Status gpu_status() const = 0;
  // Both of HostDevice: kUnavailable.
  virtual absl::StatusOr<DeviceProperties> Properties() const = 0;
  virtual absl::StatusOr<DeviceMemory> Memory() const = 0;

  // Makes host memory page-locked and known to the driver, as one registration: whether a copy may
  // end in two of them, or in one and in memory that has none, no driver promises. HostDevice: OK,
  // nothing to do.
  virtual absl::Status PinMemory(absl::Span<std::byte> memory) = 0;
  virtual absl::Status UnpinMemory(absl::Span<std::byte> memory) = 0;

  // Memory of the device, on a 256-byte boundary at least. Slow and blocking: for start-up only.
  virtual absl::StatusOr<absl::Span<std::byte>> AllocateArena(uint64_t bytes) = 0;
  // The same of memory that the host may read and write too, which is kept with the device. At most
  // what the device has free. kUnavailable where not both can use it at the same time.
  virtual absl::StatusOr<absl::Span<std::byte>> AllocateManagedArena(uint64_t bytes) = 0;
  // Of either kind. Waits for what the device still does.
  virtual absl::Status FreeArena(absl::Span<std::byte> arena) = 0;

  // A StreamRef whose `stream` is null is the default stream of its device.
  virtual absl::StatusOr<StreamRef> CreateStream() = 0;
  // Waits for what it was given.
  virtual absl::Status DestroyStream(StreamRef stream) = 0;
  // Whether it is another stream in each thread that names it (cudaStreamPerThread).
  virtual bool IsOfCallingThread(StreamRef stream) const = 0;

  // Behind what the stream was given before. The list is read before the call returns. On a status
  // other than OK nothing of it is under way.
  virtual absl::Status Copy(StreamRef stream, CopyDirection direction,
                            absl::Span<const CopyPiece> pieces) = 0;
  virtual absl::Status CopyRows(StreamRef stream, CopyDirection direction,
                                const StridedCopy& copy) = 0;

  // Has a part of a managed arena come to the device, if it is not there, behind what the stream
  // was given before.
  virtual absl::Status Prefetch(StreamRef stream, absl::Span<const std::byte> memory) = 0;

  // The point behind what the stream was given before.
  virtual absl::StatusOr<std::shared_ptr<DeviceEvent>> Record(StreamRef stream) = 0;
  // What the stream is given from here on waits for the event, which is of this device.
  virtual absl::Status WaitFor(StreamRef stream, const std::shared_ptr<DeviceEvent>& event) = 0;

  // Block the calling thread until the stream, or every stream of the device, has nothing to do.
  virtual absl::Status Synchronize(StreamRef stream) = 0;
  virtual absl::Status Synchronize() = 0;

 protected:
  Device() = default;
};

// kInvalidArgument, naming the figures, for a piece without address or bytes, for rows longer than
// their pitch, and for a stream of another device. For the implementations.
absl::Status ValidateCopy(absl::Span<const CopyPiece> pieces);
absl::Status ValidateCopy(const StridedCopy& copy);
absl::Status ValidateStream(StreamRef stream, int ordinal);

// cuda_device_absent.cc stands in for cuda_device.cc where the toolkit is missing.
absl::StatusOr<std::unique_ptr<Device>> OpenCudaDevice(int ordinal);

}  // namespace cairn
