#include <cuda_runtime_api.h>

#include <atomic>
#include <thread>
#include <utility>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "src/base/start_thread.h"
#include "src/base/status_macros.h"
#include "tiers/device.h"

namespace cairn {
namespace {

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

// Makes a GPU the calling thread's current one, and the one before it again at the end: that
// belongs to the thread, which is mostly the caller's own. Setting what is set already costs
// nothing.
class CurrentDevice {
 public:
  explicit CurrentDevice(int ordinal) : status_(Set(ordinal)) {}
  ~CurrentDevice() {
    if (before_ >= 0) (void)cudaSetDevice(before_);
  }
  CurrentDevice(const CurrentDevice&) = delete;
  CurrentDevice& operator=(const CurrentDevice&) = delete;
  const absl::Status& status() const { return status_; }

 private:
  absl::Status Set(int ordinal) {
    int current = -1;
    CAIRN_CUDA_RETURN_IF_ERROR(cudaGetDevice(&current));
    if (current == ordinal) return absl::OkStatus();
    CAIRN_CUDA_RETURN_IF_ERROR(cudaSetDevice(ordinal));
    before_ = current;
    return absl::OkStatus();
  }

  int before_ = -1;
  const absl::Status status_;
};

class CudaEvent final : public DeviceEvent {
 public:
  explicit CudaEvent(cudaEvent_t event) : event_(event) {}
  ~CudaEvent() override { (void)cudaEventDestroy(event_); }

  cudaEvent_t event() const { return event_; }
  absl::StatusOr<bool> Reached() const override {
    const cudaError_t state = cudaEventQuery(event_);
    if (state == cudaErrorNotReady) {
      (void)cudaGetLastError();
      return false;
    }
    CAIRN_CUDA_RETURN_IF_ERROR(state);
    return true;
  }
  absl::Status Wait() const override {
    CAIRN_CUDA_RETURN_IF_ERROR(cudaEventSynchronize(event_));
    return absl::OkStatus();
  }

 private:
  const cudaEvent_t event_;
};

cudaStream_t Native(StreamRef stream) { return static_cast<cudaStream_t>(stream.stream); }

cudaMemcpyKind KindOf(CopyDirection direction) {
  switch (direction) {
    case CopyDirection::kToDevice:
      return cudaMemcpyHostToDevice;
    case CopyDirection::kToHost:
      return cudaMemcpyDeviceToHost;
    case CopyDirection::kWithinDevice:
      return cudaMemcpyDeviceToDevice;
  }
  return cudaMemcpyDefault;
}

absl::Status CopyOneByOne(cudaStream_t stream, cudaMemcpyKind kind,
                          absl::Span<const CopyPiece> pieces) {
  for (const CopyPiece& piece : pieces) {
    CAIRN_CUDA_RETURN_IF_ERROR(
        cudaMemcpyAsync(piece.target, piece.source, piece.bytes, kind, stream));
  }
  return absl::OkStatus();
}

#if CUDART_VERSION >= 12080
// All in one call. Not in a toolkit before 12.8, whose driver may be older still.
cudaError_t CopyAsBatch(cudaStream_t stream, absl::Span<const CopyPiece> pieces) {
  std::vector<void*> targets;
  std::vector<const void*> sources;
  std::vector<size_t> sizes;
  targets.reserve(pieces.size());
  sources.reserve(pieces.size());
  sizes.reserve(pieces.size());
  for (const CopyPiece& piece : pieces) {
    targets.push_back(piece.target);
    sources.push_back(piece.source);
    sizes.push_back(piece.bytes);
  }
  cudaMemcpyAttributes attributes = {};
  attributes.srcAccessOrder = cudaMemcpySrcAccessOrderStream;
  size_t first_with_attributes = 0;
#if CUDART_VERSION >= 13000
  return cudaMemcpyBatchAsync(targets.data(), sources.data(), sizes.data(), sizes.size(),
                              &attributes, &first_with_attributes, 1, stream);
#else
  size_t failed = 0;
  return cudaMemcpyBatchAsync(targets.data(), const_cast<void**>(sources.data()), sizes.data(),
                              sizes.size(), &attributes, &first_with_attributes, 1, &failed,
                              stream);
#endif
}
#else
cudaError_t CopyAsBatch(cudaStream_t, absl::Span<const CopyPiece>) { return cudaErrorNotSupported; }
#endif

// A GPU, or the host (cudaCpuDeviceId), as a place of managed memory. Since 13 that is a struct.
#if CUDART_VERSION >= 13000
cudaMemLocation Place(int ordinal) {
  cudaMemLocation place = {};  // Of the host, which has no number.
  place.type = ordinal == cudaCpuDeviceId ? cudaMemLocationTypeHost : cudaMemLocationTypeDevice;
  if (ordinal != cudaCpuDeviceId) place.id = ordinal;
  return place;
}
cudaError_t PrefetchTo(int ordinal, const void* memory, size_t bytes, cudaStream_t stream) {
  return cudaMemPrefetchAsync(memory, bytes, Place(ordinal), /*flags=*/0, stream);
}
#else
int Place(int ordinal) { return ordinal; }
cudaError_t PrefetchTo(int ordinal, const void* memory, size_t bytes, cudaStream_t stream) {
  return cudaMemPrefetchAsync(memory, bytes, ordinal, stream);
}
#endif

// Kept with the GPU, and mapped for the host where the machine can: else what that touches moves.
absl::Status AdviseManaged(int ordinal, void* memory, size_t bytes) {
  CAIRN_CUDA_RETURN_IF_ERROR(
      cudaMemAdvise(memory, bytes, cudaMemAdviseSetPreferredLocation, Place(ordinal)));
  CAIRN_CUDA_RETURN_IF_ERROR(
      cudaMemAdvise(memory, bytes, cudaMemAdviseSetAccessedBy, Place(cudaCpuDeviceId)));
  return absl::OkStatus();
}

class CudaDevice final : public Device {
 public:
  CudaDevice(int ordinal, std::string name) : ordinal_(ordinal), name_(std::move(name)) {}

  std::string name() const override { return name_; }
  bool is_gpu() const override { return true; }
  int ordinal() const override { return ordinal_; }
  absl::Status gpu_status() const override { return absl::OkStatus(); }
  absl::StatusOr<DeviceProperties> Properties() const override;
  absl::StatusOr<DeviceMemory> Memory() const override;

  absl::Status PinMemory(absl::Span<std::byte> memory) override {
    return WithDevice([memory]() -> absl::Status {
      // Portable: pinned for every GPU of the process, not for this one alone.
      CAIRN_CUDA_RETURN_IF_ERROR(
          cudaHostRegister(memory.data(), memory.size(), cudaHostRegisterPortable));
      return absl::OkStatus();
    });
  }
  absl::Status UnpinMemory(absl::Span<std::byte> memory) override {
    return WithDevice([memory]() -> absl::Status {
      CAIRN_CUDA_RETURN_IF_ERROR(cudaHostUnregister(memory.data()));
      return absl::OkStatus();
    });
  }

  absl::StatusOr<absl::Span<std::byte>> AllocateArena(uint64_t bytes) override {
    void* memory = nullptr;
    CAIRN_RETURN_IF_ERROR(WithDevice([&]() -> absl::Status {
      CAIRN_CUDA_RETURN_IF_ERROR(cudaMalloc(&memory, bytes));
      return absl::OkStatus();
    }));
    return absl::Span<std::byte>(static_cast<std::byte*>(memory), bytes);
  }
  absl::StatusOr<absl::Span<std::byte>> AllocateManagedArena(uint64_t bytes) override;
  absl::Status FreeArena(absl::Span<std::byte> arena) override {
    return WithDevice([arena]() -> absl::Status {
      CAIRN_CUDA_RETURN_IF_ERROR(cudaFree(arena.data()));
      return absl::OkStatus();
    });
  }

  absl::StatusOr<StreamRef> CreateStream() override {
    const CurrentDevice current(ordinal_);
    CAIRN_RETURN_IF_ERROR(current.status());
    cudaStream_t stream = nullptr;
    // Not ordered with the default stream, which is the host's.
    CAIRN_CUDA_RETURN_IF_ERROR(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
    return StreamRef{.stream = stream, .device = ordinal_};
  }
  absl::Status DestroyStream(StreamRef stream) override {
    CAIRN_RETURN_IF_ERROR(Synchronize(stream));
    CAIRN_CUDA_RETURN_IF_ERROR(cudaStreamDestroy(Native(stream)));
    return absl::OkStatus();
  }
  bool IsOfCallingThread(StreamRef stream) const override {
    return Native(stream) == cudaStreamPerThread;
  }

  absl::Status Copy(StreamRef stream, CopyDirection direction,
                    absl::Span<const CopyPiece> pieces) override {
    CAIRN_RETURN_IF_ERROR(ValidateCopy(pieces));
    return OnStream(stream, [&] { return CopyPieces(stream, KindOf(direction), pieces); });
  }
  absl::Status CopyRows(StreamRef stream, CopyDirection direction,
                        const StridedCopy& copy) override {
    CAIRN_RETURN_IF_ERROR(ValidateCopy(copy));
    return OnStream(stream, [&]() -> absl::Status {
      CAIRN_CUDA_RETURN_IF_ERROR(cudaMemcpy2DAsync(copy.target, copy.target_pitch, copy.source,
                                                   copy.source_pitch, copy.row_bytes, copy.rows,
                                                   KindOf(direction), Native(stream)));
      return absl::OkStatus();
    });
  }

  absl::Status Prefetch(StreamRef stream, absl::Span<const std::byte> memory) override {
    return OnStream(stream, [&]() -> absl::Status {
      CAIRN_CUDA_RETURN_IF_ERROR(
          PrefetchTo(ordinal_, memory.data(), memory.size(), Native(stream)));
      return absl::OkStatus();
    });
  }

  absl::StatusOr<std::shared_ptr<DeviceEvent>> Record(StreamRef stream) override {
    std::shared_ptr<CudaEvent> made;
    CAIRN_RETURN_IF_ERROR(OnStream(stream, [&]() -> absl::Status {
      cudaEvent_t event = nullptr;
      // A thread that waits for it sleeps.
      CAIRN_CUDA_RETURN_IF_ERROR(
          cudaEventCreateWithFlags(&event, cudaEventDisableTiming | cudaEventBlockingSync));
      made = std::make_shared<CudaEvent>(event);
      CAIRN_CUDA_RETURN_IF_ERROR(cudaEventRecord(event, Native(stream)));
      return absl::OkStatus();
    }));
    return made;
  }
  absl::Status WaitFor(StreamRef stream, const std::shared_ptr<DeviceEvent>& event) override {
    return OnStream(stream, [&]() -> absl::Status {
      const auto& recorded = static_cast<const CudaEvent&>(*event);
      CAIRN_CUDA_RETURN_IF_ERROR(cudaStreamWaitEvent(Native(stream), recorded.event(), 0));
      return absl::OkStatus();
    });
  }

  absl::Status Synchronize(StreamRef stream) override {
    return OnStream(stream, [&]() -> absl::Status {
      CAIRN_CUDA_RETURN_IF_ERROR(cudaStreamSynchronize(Native(stream)));
      return absl::OkStatus();
    });
  }
  absl::Status Synchronize() override {
    const CurrentDevice current(ordinal_);
    CAIRN_RETURN_IF_ERROR(current.status());
    CAIRN_CUDA_RETURN_IF_ERROR(cudaDeviceSynchronize());
    return absl::OkStatus();
  }

 private:
  absl::Status OnStream(StreamRef stream, absl::FunctionRef<absl::Status()> work) const {
    CAIRN_RETURN_IF_ERROR(ValidateStream(stream, ordinal_));
    const CurrentDevice current(ordinal_);
    CAIRN_RETURN_IF_ERROR(current.status());
    return work();
  }

  absl::Status CopyPieces(StreamRef stream, cudaMemcpyKind kind,
                          absl::Span<const CopyPiece> pieces) {
    // The default stream takes no batches.
    if (pieces.size() > 1 && stream.stream != nullptr && takes_batches_) {
      const cudaError_t error = CopyAsBatch(Native(stream), pieces);
      if (error == cudaSuccess) return absl::OkStatus();
      const absl::Status status = CudaStatus(error, "cudaMemcpyBatchAsync");
      if (error != cudaErrorNotSupported && error != cudaErrorCallRequiresNewerDriver) {
        (void)cudaStreamSynchronize(Native(stream));
        return status;
      }
      takes_batches_ = false;
    }
    absl::Status status = CopyOneByOne(Native(stream), kind, pieces);
    // None of them may go on into memory that the caller takes for free.
    if (!status.ok()) (void)cudaStreamSynchronize(Native(stream));
    return status;
  }

  // What is slow and done once: on a thread of its own, so that the caller's current device stays
  // as it is, started or not.
  absl::Status WithDevice(absl::FunctionRef<absl::Status()> work) const {
    absl::Status status;
    std::jthread thread;
    CAIRN_RETURN_IF_ERROR(StartThread(thread, "cairn-gpu", [&] {
      status = CudaStatus(cudaSetDevice(ordinal_), "cudaSetDevice");
      if (status.ok()) status = work();
    }));
    thread.join();
    return status;
  }

  const int ordinal_;
  const std::string name_;
  std::atomic<bool> takes_batches_ = true;
};

absl::StatusOr<DeviceMemory> CudaDevice::Memory() const {
  const CurrentDevice current(ordinal_);
  CAIRN_RETURN_IF_ERROR(current.status());
  size_t bytes_free = 0;
  size_t bytes = 0;
  CAIRN_CUDA_RETURN_IF_ERROR(cudaMemGetInfo(&bytes_free, &bytes));
  return DeviceMemory{.bytes = bytes, .bytes_free = bytes_free};
}

// More than the GPU has would go to and fro with every access: that is no L1.
absl::StatusOr<absl::Span<std::byte>> CudaDevice::AllocateManagedArena(uint64_t bytes) {
  CAIRN_ASSIGN_OR_RETURN(const DeviceMemory device, Memory());
  if (bytes > device.bytes_free) {
    return absl::ResourceExhaustedError(absl::StrCat(
        bytes, " bytes of managed memory: ", device.bytes_free, " of ", device.bytes, " are free"));
  }
  void* memory = nullptr;
  CAIRN_RETURN_IF_ERROR(WithDevice([&]() -> absl::Status {
    int is_shared = 0;
    CAIRN_CUDA_RETURN_IF_ERROR(
        cudaDeviceGetAttribute(&is_shared, cudaDevAttrConcurrentManagedAccess, ordinal_));
    if (is_shared == 0) {
      return absl::UnavailableError("the GPU and the host cannot use managed memory together");
    }
    CAIRN_CUDA_RETURN_IF_ERROR(cudaMallocManaged(&memory, bytes, cudaMemAttachGlobal));
    absl::Status advised = AdviseManaged(ordinal_, memory, bytes);
    if (!advised.ok()) (void)cudaFree(memory);
    return advised;
  }));
  return absl::Span<std::byte>(static_cast<std::byte*>(memory), bytes);
}

absl::StatusOr<DeviceProperties> CudaDevice::Properties() const {
  cudaDeviceProp native;
  CAIRN_CUDA_RETURN_IF_ERROR(cudaGetDeviceProperties(&native, ordinal_));
  CAIRN_ASSIGN_OR_RETURN(const DeviceMemory memory, Memory());
  DeviceProperties properties;
  properties.gpu = {.ordinal = ordinal_,
                    .name = name_,
                    .memory_bytes = memory.bytes,
                    .memory_bytes_free = memory.bytes_free,
                    .compute_capability_major = native.major,
                    .compute_capability_minor = native.minor,
                    .multiprocessors = static_cast<uint32_t>(native.multiProcessorCount),
                    .shared_bytes_per_block_max = native.sharedMemPerBlockOptin,
                    .copy_engines = static_cast<uint32_t>(native.asyncEngineCount)};
  properties.pci_address =
      absl::StrFormat("%04x:%02x:%02x.0", native.pciDomainID, native.pciBusID, native.pciDeviceID);
  return properties;
}

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
