#pragma once

#include <memory>
#include <utility>

#include "src/base/mutex.h"
#include "tiers/allocator.h"

namespace cairn::micro {

// An allocator behind one lock: what MagazineAllocator is measured against.
class LockedAllocator final : public Allocator {
 public:
  explicit LockedAllocator(std::unique_ptr<Allocator> allocator)
      : allocator_(std::move(allocator)) {}

  absl::StatusOr<Extent> Allocate(uint64_t bytes) override {
    MutexLock lock(mutex_);
    return allocator_->Allocate(bytes);
  }
  absl::Status Free(Extent extent) override {
    MutexLock lock(mutex_);
    return allocator_->Free(extent);
  }
  uint64_t bytes_max() const override {
    MutexLock lock(mutex_);
    return allocator_->bytes_max();
  }
  uint64_t bytes_used() const override {
    MutexLock lock(mutex_);
    return allocator_->bytes_used();
  }
  uint64_t largest_free_bytes() const override {
    MutexLock lock(mutex_);
    return allocator_->largest_free_bytes();
  }

 private:
  mutable Mutex mutex_;
  const std::unique_ptr<Allocator> allocator_ ABSL_PT_GUARDED_BY(mutex_);
};

// Two locks of each thread's own and nothing behind them: what the machine has for threads that
// share nothing, while others are on it.
class NothingShared final : public Allocator {
 public:
  absl::StatusOr<Extent> Allocate(uint64_t bytes) override { return Step(bytes); }
  absl::Status Free(Extent extent) override {
    Step(extent.bytes);
    return absl::OkStatus();
  }
  uint64_t bytes_max() const override { return 0; }
  uint64_t bytes_used() const override { return 0; }
  uint64_t largest_free_bytes() const override { return 0; }

 private:
  struct alignas(128) Own {
    Mutex mutex;
    uint64_t steps ABSL_GUARDED_BY(mutex) = 0;
  };
  static Extent Step(uint64_t bytes) {
    thread_local Own own;
    MutexLock lock(own.mutex);
    return {++own.steps, bytes};
  }
};

}  // namespace cairn::micro
