#pragma once

#include <cstdint>
#include <set>
#include <utility>

#include "absl/status/status.h"
#include "src/base/mutex.h"

namespace cairn {

// Which spills are under way, so that Flush waits for those before it and not for those after.
// Thread-safe.
class SpillTracker {
 public:
  void Begin(uint64_t sequence) ABSL_LOCKS_EXCLUDED(mutex_) {
    MutexLock lock(mutex_);
    under_way_.insert(sequence);
  }
  // How a spill ended: told before anybody who waits for it is, so that whoever was told of a
  // success finds the store no longer degraded.
  void Note(const absl::Status& status) ABSL_LOCKS_EXCLUDED(mutex_) {
    MutexLock lock(mutex_);
    last_status_ = status;
    if (!status.ok()) {
      ++failures_;
      last_failure_ = status;
    }
  }
  void End(uint64_t sequence) ABSL_LOCKS_EXCLUDED(mutex_) {
    MutexLock lock(mutex_);
    under_way_.erase(sequence);
    ended_.NotifyAll();
  }
  uint64_t under_way() const ABSL_LOCKS_EXCLUDED(mutex_) {
    MutexLock lock(mutex_);
    return under_way_.size();
  }
  // How the spill that ended last ended.
  absl::Status last_status() const ABSL_LOCKS_EXCLUDED(mutex_) {
    MutexLock lock(mutex_);
    return last_status_;
  }
  // Waits until every spill with a sequence up to `last` has ended.
  void WaitUpTo(uint64_t last) ABSL_LOCKS_EXCLUDED(mutex_) {
    MutexLock lock(mutex_);
    while (!under_way_.empty() && *under_way_.begin() <= last) ended_.Wait(mutex_);
  }
  // Failures since the last call, and the last of them.
  std::pair<uint64_t, absl::Status> TakeFailures() ABSL_LOCKS_EXCLUDED(mutex_) {
    MutexLock lock(mutex_);
    return {std::exchange(failures_, 0), std::exchange(last_failure_, absl::OkStatus())};
  }

 private:
  mutable Mutex mutex_;
  CondVar ended_;
  std::set<uint64_t> under_way_ ABSL_GUARDED_BY(mutex_);
  uint64_t failures_ ABSL_GUARDED_BY(mutex_) = 0;
  absl::Status last_failure_ ABSL_GUARDED_BY(mutex_);
  absl::Status last_status_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace cairn
