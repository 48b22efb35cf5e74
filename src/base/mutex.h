#pragma once

#include <chrono>
#include <condition_variable>
#include <mutex>

#include "absl/base/thread_annotations.h"
#include "src/base/schedule.h"

namespace cairn {

// The only lock: std::mutex, which ThreadSanitizer understands (Debian's absl::Mutex is not
// instrumented and reports races that are none), with Abseil's annotations, which clang checks.
//
// Ranks, taken in this order, never two of one rank, never held across I/O, a callback or an
// allocation of tensor memory:
//   directory stripe < eviction policy < magazine < allocator < queue (engine, index writer,
//   journal, ...)
class ABSL_LOCKABLE Mutex {
 public:
  void Lock() ABSL_EXCLUSIVE_LOCK_FUNCTION() {
    if (Schedule* schedule = Schedule::Current()) [[unlikely]]
      return schedule->Lock(this);
    mutex_.lock();
  }
  void Unlock() ABSL_UNLOCK_FUNCTION() {
    if (Schedule* schedule = Schedule::Current()) [[unlikely]]
      return schedule->Unlock(this);
    mutex_.unlock();
  }
  void AssertHeld() const ABSL_ASSERT_EXCLUSIVE_LOCK() {}

 private:
  friend class CondVar;
  std::mutex mutex_;
};

class ABSL_SCOPED_LOCKABLE MutexLock {
 public:
  explicit MutexLock(Mutex& mutex) ABSL_EXCLUSIVE_LOCK_FUNCTION(mutex) : mutex_(mutex) {
    mutex_.Lock();
  }
  ~MutexLock() ABSL_UNLOCK_FUNCTION() { mutex_.Unlock(); }
  MutexLock(const MutexLock&) = delete;
  MutexLock& operator=(const MutexLock&) = delete;

 private:
  Mutex& mutex_;
};

class CondVar {
 public:
  using Deadline = std::chrono::steady_clock::time_point;

  void Wait(Mutex& mutex) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex) {
    if (Schedule* schedule = Schedule::Current()) [[unlikely]] {
      schedule->Wait(this, &mutex, Deadline::max());
      return;
    }
    std::unique_lock<std::mutex> lock(mutex.mutex_, std::adopt_lock);
    condition_.wait(lock);
    lock.release();
  }
  // False when the deadline has passed.
  bool WaitUntil(Mutex& mutex, Deadline deadline) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex) {
    if (Schedule* schedule = Schedule::Current()) [[unlikely]] {
      return schedule->Wait(this, &mutex, deadline);
    }
    std::unique_lock<std::mutex> lock(mutex.mutex_, std::adopt_lock);
    const bool in_time = condition_.wait_until(lock, deadline) == std::cv_status::no_timeout;
    lock.release();
    return in_time;
  }
  void NotifyOne() {
    if (Schedule* schedule = Schedule::Current()) [[unlikely]]
      return schedule->Notify(this, false);
    condition_.notify_one();
  }
  void NotifyAll() {
    if (Schedule* schedule = Schedule::Current()) [[unlikely]]
      return schedule->Notify(this, true);
    condition_.notify_all();
  }

 private:
  std::condition_variable condition_;
};

}  // namespace cairn
