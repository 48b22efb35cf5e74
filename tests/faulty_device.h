#pragma once

#include <algorithm>
#include <atomic>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "src/base/mutex.h"
#include "tiers/device.h"

namespace cairn {

// A device whose copies fail when the test says so: refused at once, or found to have failed when
// somebody waits for them. It remembers what it was asked for. It can pose as a GPU, with a driver
// that pins what the test lets it.
class FaultyDevice final : public Device {
 public:
  explicit FaultyDevice(std::unique_ptr<Device> inner) : inner_(std::move(inner)) {}

  std::atomic<int> copies_to_refuse = 0;
  std::atomic<int> events_to_fail = 0;
  std::atomic<int> records_to_refuse = 0;
  std::atomic<int> prefetches_to_refuse = 0;
  // How often the store asked.
  std::atomic<int> copies = 0;
  std::atomic<int> row_copies = 0;
  std::atomic<int> copies_within = 0;
  std::atomic<int> records = 0;
  std::atomic<int> setups = 0;    // For memory or streams, or to have nothing more to do.
  absl::Span<std::byte> arena;    // The last one,
  absl::Span<std::byte> managed;  // and of managed memory.
  std::atomic<uint64_t> bytes_prefetched = 0;

  // Before the device is used.
  bool poses_as_gpu = false;
  std::string pci_address;  // Of what poses as one.
  // Asked on the thread that pins, before anything is; not OK refuses.
  std::function<absl::Status(absl::Span<std::byte>)> before_pin;
  // What is pinned now, in the order in which it was.
  std::vector<absl::Span<std::byte>> pinned() const ABSL_LOCKS_EXCLUDED(mutex_) {
    MutexLock lock(mutex_);
    return pinned_;
  }
  std::atomic<int> pins = 0;  // So often it was asked.
  // Copies with an end that is partly in one registration and partly elsewhere.
  std::atomic<int> copies_across = 0;

  // An event that is reached when the test says so.
  class Gate final : public DeviceEvent {
   public:
    void Open() ABSL_LOCKS_EXCLUDED(mutex_) {
      MutexLock lock(mutex_);
      is_open_ = true;
      opened_.NotifyAll();
    }
    absl::StatusOr<bool> Reached() const override ABSL_LOCKS_EXCLUDED(mutex_) {
      MutexLock lock(mutex_);
      return is_open_;
    }
    absl::Status Wait() const override ABSL_LOCKS_EXCLUDED(mutex_) {
      MutexLock lock(mutex_);
      while (!is_open_) opened_.Wait(mutex_);
      return absl::OkStatus();
    }

   private:
    mutable Mutex mutex_;
    mutable CondVar opened_;
    bool is_open_ ABSL_GUARDED_BY(mutex_) = false;
  };
  // What the stream is given from here on waits until the gate is opened. Of a HostDevice alone.
  std::shared_ptr<Gate> Hold(StreamRef stream) {
    auto gate = std::make_shared<Gate>();
    return inner_->WaitFor(stream, gate).ok() ? gate : nullptr;
  }

  std::string name() const override { return inner_->name(); }
  bool is_gpu() const override { return poses_as_gpu || inner_->is_gpu(); }
  int ordinal() const override { return inner_->ordinal(); }
  absl::Status gpu_status() const override { return inner_->gpu_status(); }
  absl::StatusOr<DeviceProperties> Properties() const override {
    if (poses_as_gpu) return DeviceProperties{.pci_address = pci_address};
    return inner_->Properties();
  }
  absl::StatusOr<DeviceMemory> Memory() const override { return inner_->Memory(); }
  absl::Status PinMemory(absl::Span<std::byte> memory) override {
    ++setups;
    ++pins;
    absl::Status status = before_pin ? before_pin(memory) : absl::OkStatus();
    if (status.ok()) status = inner_->PinMemory(memory);
    MutexLock lock(mutex_);
    if (status.ok()) pinned_.push_back(memory);
    return status;
  }
  absl::Status UnpinMemory(absl::Span<std::byte> memory) override {
    ++setups;
    {
      MutexLock lock(mutex_);
      const auto found = std::find(pinned_.begin(), pinned_.end(), memory);
      if (found == pinned_.end()) return absl::InvalidArgumentError("never pinned");
      pinned_.erase(found);
    }
    return inner_->UnpinMemory(memory);
  }
  absl::StatusOr<absl::Span<std::byte>> AllocateArena(uint64_t bytes) override {
    ++setups;
    absl::StatusOr<absl::Span<std::byte>> allocated = inner_->AllocateArena(bytes);
    if (allocated.ok()) arena = *allocated;
    return allocated;
  }
  absl::StatusOr<absl::Span<std::byte>> AllocateManagedArena(uint64_t bytes) override {
    ++setups;
    absl::StatusOr<absl::Span<std::byte>> allocated = inner_->AllocateManagedArena(bytes);
    if (allocated.ok()) managed = arena = *allocated;
    return allocated;
  }
  absl::Status FreeArena(absl::Span<std::byte> memory) override {
    ++setups;
    return inner_->FreeArena(memory);
  }
  absl::StatusOr<StreamRef> CreateStream() override {
    ++setups;
    return inner_->CreateStream();
  }
  absl::Status DestroyStream(StreamRef stream) override {
    ++setups;
    return inner_->DestroyStream(stream);
  }
  bool IsOfCallingThread(StreamRef stream) const override {
    return inner_->IsOfCallingThread(stream);
  }
  absl::Status Copy(StreamRef stream, CopyDirection direction,
                    absl::Span<const CopyPiece> pieces) override {
    if (Take(copies_to_refuse)) return absl::UnavailableError("the device refused");
    ++(direction == CopyDirection::kWithinDevice ? copies_within : copies);
    for (const CopyPiece& piece : pieces) {
      if (LiesAcross(piece.target, piece.bytes) || LiesAcross(piece.source, piece.bytes)) {
        ++copies_across;
      }
    }
    return inner_->Copy(stream, direction, pieces);
  }
  absl::Status CopyRows(StreamRef stream, CopyDirection direction,
                        const StridedCopy& copy) override {
    ++row_copies;
    return inner_->CopyRows(stream, direction, copy);
  }
  absl::Status Prefetch(StreamRef stream, absl::Span<const std::byte> memory) override {
    if (Take(prefetches_to_refuse)) return absl::UnavailableError("the device prefetches nothing");
    bytes_prefetched += memory.size();
    return inner_->Prefetch(stream, memory);
  }
  absl::StatusOr<std::shared_ptr<DeviceEvent>> Record(StreamRef stream) override {
    ++records;
    if (Take(records_to_refuse)) return absl::UnavailableError("the device refused an event");
    absl::StatusOr<std::shared_ptr<DeviceEvent>> event = inner_->Record(stream);
    if (!event.ok()) return event;
    return std::make_shared<Event>(*std::move(event), Take(events_to_fail));
  }
  absl::Status WaitFor(StreamRef stream, const std::shared_ptr<DeviceEvent>& event) override {
    return inner_->WaitFor(stream, static_cast<const Event&>(*event).inner);
  }
  absl::Status Synchronize(StreamRef stream) override {
    ++setups;
    return inner_->Synchronize(stream);
  }
  absl::Status Synchronize() override {
    ++setups;
    return inner_->Synchronize();
  }

 private:
  struct Event final : DeviceEvent {
    Event(std::shared_ptr<DeviceEvent> of, bool fails) : inner(std::move(of)), failed(fails) {}
    absl::StatusOr<bool> Reached() const override { return inner->Reached(); }
    absl::Status Wait() const override {
      const absl::Status status = inner->Wait();
      return failed ? absl::UnavailableError("the device failed") : status;
    }
    const std::shared_ptr<DeviceEvent> inner;
    const bool failed;
  };

  static bool Take(std::atomic<int>& left) {
    int count = left.load();
    while (count > 0 && !left.compare_exchange_weak(count, count - 1)) {
    }
    return count > 0;
  }

  // Whether some of it is in a registration, but not all of it in that one.
  bool LiesAcross(const std::byte* data, uint64_t bytes) const ABSL_LOCKS_EXCLUDED(mutex_) {
    MutexLock lock(mutex_);
    return std::any_of(pinned_.begin(), pinned_.end(), [&](absl::Span<std::byte> chunk) {
      const std::byte* const end = chunk.data() + chunk.size();
      const bool overlaps = data < end && data + bytes > chunk.data();
      return overlaps && (data < chunk.data() || data + bytes > end);
    });
  }

  const std::unique_ptr<Device> inner_;
  mutable Mutex mutex_;
  std::vector<absl::Span<std::byte>> pinned_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace cairn
