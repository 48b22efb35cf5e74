#pragma once

#include <cstdint>

#include "src/base/mutex.h"

namespace cairn {

// Waits for the ops submitted before a moment while others go on submitting: ops are counted in
// two epochs; a wait closes the current one and lasts until it is empty. Thread-safe.
class IoDrain {
 public:
  // Returns the epoch to leave, once per op.
  uint8_t Enter(uint64_t ops) {
    MutexLock lock(mutex_);
    open_ops_[epoch_] += ops;
    return epoch_;
  }

  void Leave(uint8_t epoch) {
    MutexLock lock(mutex_);
    if (--open_ops_[epoch] == 0 && waiting_) changed_.NotifyAll();
  }

  // Waits run one after the other, so that the epoch to be opened is always empty.
  void Wait() {
    MutexLock lock(mutex_);
    while (waiting_) changed_.Wait(mutex_);
    waiting_ = true;
    const uint8_t closed = epoch_;
    epoch_ = closed ^ 1;
    while (open_ops_[closed] != 0) changed_.Wait(mutex_);
    waiting_ = false;
    changed_.NotifyAll();
  }

 private:
  Mutex mutex_;
  CondVar changed_;
  uint8_t epoch_ ABSL_GUARDED_BY(mutex_) = 0;
  bool waiting_ ABSL_GUARDED_BY(mutex_) = false;
  uint64_t open_ops_[2] ABSL_GUARDED_BY(mutex_) = {};
};

}  // namespace cairn
