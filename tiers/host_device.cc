#include "tiers/host_device.h"

#include <chrono>
#include <cstring>
#include <deque>
#include <map>
#include <random>
#include <utility>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "absl/strings/str_cat.h"
#include "src/base/clock.h"
#include "src/base/mutex.h"
#include "src/base/status_macros.h"
#include "src/base/thread.h"
#include "tiers/arena.h"

namespace cairn {
namespace {

class HostEvent final : public DeviceEvent {
 public:
  void Reach() ABSL_LOCKS_EXCLUDED(mutex_) {
    MutexLock lock(mutex_);
    is_reached_ = true;
    reached_.NotifyAll();
  }
  absl::StatusOr<bool> Reached() const override ABSL_LOCKS_EXCLUDED(mutex_) {
    MutexLock lock(mutex_);
    return is_reached_;
  }
  absl::Status Wait() const override ABSL_LOCKS_EXCLUDED(mutex_) {
    MutexLock lock(mutex_);
    while (!is_reached_) reached_.Wait(mutex_);
    return absl::OkStatus();
  }

 private:
  mutable Mutex mutex_;
  mutable CondVar reached_;
  bool is_reached_ ABSL_GUARDED_BY(mutex_) = false;
};

// A thread that does what it is given in order, each step after its delay.
class HostStream {
 public:
  using Step = absl::AnyInvocable<void() &&>;

  HostStream(uint64_t seed, uint64_t delay_us_max) : random_(seed), delay_us_max_(delay_us_max) {}
  // Does what it was given first.
  ~HostStream() {
    {
      MutexLock lock(mutex_);
      stop_ = true;
      work_.NotifyAll();
    }
    thread_.Join();
  }

  absl::Status Start() {
    return thread_.Start("cairn-stream", [this] { Run(); });
  }

  void Give(Step step) ABSL_LOCKS_EXCLUDED(mutex_) {
    MutexLock lock(mutex_);
    steps_.push_back(std::move(step));
    work_.NotifyAll();
  }

 private:
  void Run() ABSL_LOCKS_EXCLUDED(mutex_) {
    while (true) {
      Step step;
      {
        MutexLock lock(mutex_);
        while (!stop_ && steps_.empty()) work_.Wait(mutex_);
        if (steps_.empty()) return;
        step = std::move(steps_.front());
        steps_.pop_front();
      }
      if (delay_us_max_ > 0) SleepFor(std::chrono::microseconds(random_() % (delay_us_max_ + 1)));
      std::move(step)();
    }
  }

  std::mt19937_64 random_;  // Of the stream's thread.
  const uint64_t delay_us_max_;
  Mutex mutex_;
  CondVar work_;
  std::deque<Step> steps_ ABSL_GUARDED_BY(mutex_);
  bool stop_ ABSL_GUARDED_BY(mutex_) = false;
  Thread thread_;
};

class HostDevice final : public Device {
 public:
  explicit HostDevice(const HostDeviceOptions& options) : options_(options) {}

  std::string name() const override { return "host"; }
  bool is_gpu() const override { return false; }
  int ordinal() const override { return options_.ordinal; }
  absl::Status gpu_status() const override { return options_.gpu_status; }
  absl::StatusOr<DeviceProperties> Properties() const override { return options_.gpu_status; }
  absl::StatusOr<DeviceMemory> Memory() const override { return options_.gpu_status; }

  // Without a GPU there is no driver to tell: memory is as good as it is.
  absl::Status PinMemory(absl::Span<std::byte> /*memory*/) override { return absl::OkStatus(); }
  absl::Status UnpinMemory(absl::Span<std::byte> /*memory*/) override { return absl::OkStatus(); }

  absl::StatusOr<absl::Span<std::byte>> AllocateArena(uint64_t bytes) override;
  absl::StatusOr<absl::Span<std::byte>> AllocateManagedArena(uint64_t bytes) override {
    return AllocateArena(bytes);
  }
  absl::Status FreeArena(absl::Span<std::byte> arena) override;
  absl::StatusOr<StreamRef> CreateStream() override;
  absl::Status DestroyStream(StreamRef stream) override;
  bool IsOfCallingThread(StreamRef /*stream*/) const override { return false; }
  absl::Status Copy(StreamRef stream, CopyDirection direction,
                    absl::Span<const CopyPiece> pieces) override;
  absl::Status CopyRows(StreamRef stream, CopyDirection direction,
                        const StridedCopy& copy) override;
  absl::Status Prefetch(StreamRef stream, absl::Span<const std::byte> memory) override;
  absl::StatusOr<std::shared_ptr<DeviceEvent>> Record(StreamRef stream) override;
  absl::Status WaitFor(StreamRef stream, const std::shared_ptr<DeviceEvent>& event) override;
  absl::Status Synchronize(StreamRef stream) override;
  absl::Status Synchronize() override;

 private:
  using StreamPointer = std::shared_ptr<HostStream>;

  absl::StatusOr<StreamPointer> Find(StreamRef ref) ABSL_LOCKS_EXCLUDED(mutex_);
  absl::StatusOr<StreamPointer> NewStream() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    auto stream =
        std::make_shared<HostStream>(options_.delay_seed + streams_made_++, options_.delay_us_max);
    CAIRN_RETURN_IF_ERROR(stream->Start());
    return stream;
  }
  // What the driver of a GPU would refuse: an address that is none of its own.
  absl::Status CheckOnDevice(CopyDirection direction, const std::byte* target,
                             const std::byte* source, uint64_t target_bytes, uint64_t source_bytes)
      ABSL_LOCKS_EXCLUDED(mutex_);
  bool InArena(const std::byte* data, uint64_t bytes) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const HostDeviceOptions options_;
  mutable Mutex mutex_;
  std::map<const std::byte*, std::unique_ptr<Arena>> arenas_ ABSL_GUARDED_BY(mutex_);
  // By the pointer in their StreamRef; the default stream under null, made at its first use. They
  // end before the arenas.
  uint64_t streams_made_ ABSL_GUARDED_BY(mutex_) = 0;
  std::map<void*, StreamPointer> streams_ ABSL_GUARDED_BY(mutex_);
};

absl::StatusOr<absl::Span<std::byte>> HostDevice::AllocateArena(uint64_t bytes) {
  CAIRN_ASSIGN_OR_RETURN(std::unique_ptr<Arena> arena, Arena::Create(bytes));
  const absl::Span<std::byte> memory = arena->memory().first(bytes);
  MutexLock lock(mutex_);
  arenas_.emplace(memory.data(), std::move(arena));
  return memory;
}

absl::Status HostDevice::FreeArena(absl::Span<std::byte> memory) {
  CAIRN_RETURN_IF_ERROR(Synchronize());
  MutexLock lock(mutex_);
  if (arenas_.erase(memory.data()) == 1) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("memory of ", memory.size(), " bytes is no arena of this device"));
}

absl::StatusOr<StreamRef> HostDevice::CreateStream() {
  MutexLock lock(mutex_);
  CAIRN_ASSIGN_OR_RETURN(StreamPointer stream, NewStream());
  const StreamRef ref = {.stream = stream.get(), .device = options_.ordinal};
  streams_.emplace(ref.stream, std::move(stream));
  return ref;
}

absl::Status HostDevice::DestroyStream(StreamRef ref) {
  CAIRN_RETURN_IF_ERROR(ValidateStream(ref, options_.ordinal));
  StreamPointer stream;  // Ends without the lock.
  MutexLock lock(mutex_);
  const auto found = ref.stream == nullptr ? streams_.end() : streams_.find(ref.stream);
  if (found == streams_.end()) return absl::InvalidArgumentError("no such stream");
  stream = std::move(found->second);
  streams_.erase(found);
  return absl::OkStatus();
}

absl::StatusOr<HostDevice::StreamPointer> HostDevice::Find(StreamRef ref) {
  CAIRN_RETURN_IF_ERROR(ValidateStream(ref, options_.ordinal));
  MutexLock lock(mutex_);
  const auto found = streams_.find(ref.stream);
  if (found != streams_.end()) return found->second;
  if (ref.stream != nullptr) {
    return absl::InvalidArgumentError("the stream is none of this device, which is the host");
  }
  CAIRN_ASSIGN_OR_RETURN(StreamPointer stream, NewStream());
  return streams_.emplace(nullptr, std::move(stream)).first->second;
}

bool HostDevice::InArena(const std::byte* data, uint64_t bytes) const {
  const auto behind = arenas_.upper_bound(data);
  if (behind == arenas_.begin()) return false;
  const auto& [base, arena] = *std::prev(behind);
  const auto offset = static_cast<uint64_t>(data - base);
  return offset <= arena->bytes() && bytes <= arena->bytes() - offset;
}

absl::Status HostDevice::CheckOnDevice(CopyDirection direction, const std::byte* target,
                                       const std::byte* source, uint64_t target_bytes,
                                       uint64_t source_bytes) {
  MutexLock lock(mutex_);
  const bool to_device = direction != CopyDirection::kToHost;
  const bool from_device = direction != CopyDirection::kToDevice;
  if (to_device && !InArena(target, target_bytes)) {
    return absl::InvalidArgumentError("the target of a copy is not in the device's memory");
  }
  if (from_device && !InArena(source, source_bytes)) {
    return absl::InvalidArgumentError("the source of a copy is not in the device's memory");
  }
  return absl::OkStatus();
}

absl::Status HostDevice::Copy(StreamRef ref, CopyDirection direction,
                              absl::Span<const CopyPiece> pieces) {
  CAIRN_RETURN_IF_ERROR(ValidateCopy(pieces));
  CAIRN_ASSIGN_OR_RETURN(const StreamPointer stream, Find(ref));
  for (const CopyPiece& piece : pieces) {
    CAIRN_RETURN_IF_ERROR(
        CheckOnDevice(direction, piece.target, piece.source, piece.bytes, piece.bytes));
  }
  stream->Give([pieces = std::vector<CopyPiece>(pieces.begin(), pieces.end())] {
    for (const CopyPiece& piece : pieces) std::memcpy(piece.target, piece.source, piece.bytes);
  });
  return absl::OkStatus();
}

absl::Status HostDevice::CopyRows(StreamRef ref, CopyDirection direction, const StridedCopy& copy) {
  CAIRN_RETURN_IF_ERROR(ValidateCopy(copy));
  CAIRN_ASSIGN_OR_RETURN(const StreamPointer stream, Find(ref));
  CAIRN_RETURN_IF_ERROR(CheckOnDevice(direction, copy.target, copy.source,
                                      (copy.rows - 1) * copy.target_pitch + copy.row_bytes,
                                      (copy.rows - 1) * copy.source_pitch + copy.row_bytes));
  stream->Give([copy] {
    for (uint64_t row = 0; row < copy.rows; ++row) {
      std::memcpy(copy.target + row * copy.target_pitch, copy.source + row * copy.source_pitch,
                  copy.row_bytes);
    }
  });
  return absl::OkStatus();
}

// It is there.
absl::Status HostDevice::Prefetch(StreamRef ref, absl::Span<const std::byte> memory) {
  CAIRN_RETURN_IF_ERROR(Find(ref).status());
  return CheckOnDevice(CopyDirection::kToDevice, memory.data(), nullptr, memory.size(), 0);
}

absl::StatusOr<std::shared_ptr<DeviceEvent>> HostDevice::Record(StreamRef ref) {
  CAIRN_ASSIGN_OR_RETURN(const StreamPointer stream, Find(ref));
  auto event = std::make_shared<HostEvent>();
  stream->Give([event] { event->Reach(); });
  return event;
}

absl::Status HostDevice::WaitFor(StreamRef ref, const std::shared_ptr<DeviceEvent>& event) {
  CAIRN_ASSIGN_OR_RETURN(const StreamPointer stream, Find(ref));
  stream->Give([event] { event->Wait().IgnoreError(); });
  return absl::OkStatus();
}

absl::Status HostDevice::Synchronize(StreamRef ref) {
  CAIRN_ASSIGN_OR_RETURN(const std::shared_ptr<DeviceEvent> event, Record(ref));
  return event->Wait();
}

absl::Status HostDevice::Synchronize() {
  std::vector<StreamRef> streams;
  {
    MutexLock lock(mutex_);
    for (const auto& [pointer, stream] : streams_) streams.push_back({pointer, options_.ordinal});
  }
  // One that is destroyed meanwhile has done its work.
  for (const StreamRef stream : streams) Synchronize(stream).IgnoreError();
  return absl::OkStatus();
}

}  // namespace

std::unique_ptr<Device> NewHostDevice(const HostDeviceOptions& options) {
  return std::make_unique<HostDevice>(options);
}

}  // namespace cairn
