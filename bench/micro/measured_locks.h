#pragma once

#include <shared_mutex>

#include "absl/base/thread_annotations.h"
#include "src/base/mutex.h"

namespace cairn::micro {

// std::shared_mutex, which nothing but what measures against it may use.
class ABSL_LOCKABLE SharedMutex {
 public:
  void Lock() ABSL_EXCLUSIVE_LOCK_FUNCTION() { mutex_.lock(); }
  void Unlock() ABSL_UNLOCK_FUNCTION() { mutex_.unlock(); }
  void LockShared() ABSL_SHARED_LOCK_FUNCTION() { mutex_.lock_shared(); }
  void UnlockShared() ABSL_UNLOCK_FUNCTION() { mutex_.unlock_shared(); }

 private:
  std::shared_mutex mutex_;
};

class ABSL_SCOPED_LOCKABLE SharedMutexWrite {
 public:
  explicit SharedMutexWrite(SharedMutex& mutex) ABSL_EXCLUSIVE_LOCK_FUNCTION(mutex)
      : mutex_(mutex) {
    mutex_.Lock();
  }
  ~SharedMutexWrite() ABSL_UNLOCK_FUNCTION() { mutex_.Unlock(); }
  SharedMutexWrite(const SharedMutexWrite&) = delete;
  SharedMutexWrite& operator=(const SharedMutexWrite&) = delete;

 private:
  SharedMutex& mutex_;
};

class ABSL_SCOPED_LOCKABLE SharedMutexRead {
 public:
  explicit SharedMutexRead(SharedMutex& mutex) ABSL_SHARED_LOCK_FUNCTION(mutex) : mutex_(mutex) {
    mutex_.LockShared();
  }
  ~SharedMutexRead() ABSL_UNLOCK_FUNCTION() { mutex_.UnlockShared(); }
  SharedMutexRead(const SharedMutexRead&) = delete;
  SharedMutexRead& operator=(const SharedMutexRead&) = delete;

 private:
  SharedMutex& mutex_;
};

// Which lock, and how it is taken to read and to write. The first is a std::mutex.
struct ByMutex {
  using Lock = Mutex;
  using Read = MutexLock;
  using Write = MutexLock;
};
struct BySharedMutex {
  using Lock = SharedMutex;
  using Read = SharedMutexRead;
  using Write = SharedMutexWrite;
};

}  // namespace cairn::micro
