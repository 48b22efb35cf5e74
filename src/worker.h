#pragma once

#include <cstddef>
#include <deque>
#include <utility>

#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "src/base/mutex.h"
#include "src/base/thread.h"

namespace cairn {

// One thread that runs tasks in order: for what must not run where it was found (a callback of the
// host's on the engine's thread; a wait for room in an asynchronous call). Thread-safe.
class Worker {
 public:
  using Task = absl::AnyInvocable<void() &&>;

  explicit Worker(size_t queue_max) : queue_max_(queue_max) {}
  ~Worker() { Stop(); }

  // Once, before the first task.
  absl::Status Start(const char* name) {
    return thread_.Start(name, [this] { Run(); });
  }

  // False, and the task is untouched, when the queue is full or stopped.
  bool TryPost(Task& task) ABSL_LOCKS_EXCLUDED(mutex_) {
    MutexLock lock(mutex_);
    if (stop_ || tasks_.size() >= queue_max_) return false;
    tasks_.push_back(std::move(task));
    work_.NotifyOne();
    return true;
  }
  // For tasks whose number the caller bounds itself. After Stop: dropped.
  void Post(Task task) ABSL_LOCKS_EXCLUDED(mutex_) {
    MutexLock lock(mutex_);
    if (stop_) return;
    tasks_.push_back(std::move(task));
    work_.NotifyOne();
  }

  // Nothing is queued and nothing runs.
  bool idle() const ABSL_LOCKS_EXCLUDED(mutex_) {
    MutexLock lock(mutex_);
    return tasks_.empty() && !running_;
  }

  // Runs what is queued, then ends the thread. Not from a task.
  void Stop() ABSL_LOCKS_EXCLUDED(mutex_) {
    {
      MutexLock lock(mutex_);
      stop_ = true;
      work_.NotifyAll();
    }
    thread_.Join();
  }

 private:
  void Run() ABSL_LOCKS_EXCLUDED(mutex_) {
    while (true) {
      Task task;
      {
        MutexLock lock(mutex_);
        while (!stop_ && tasks_.empty()) work_.Wait(mutex_);
        if (tasks_.empty()) return;
        task = std::move(tasks_.front());
        tasks_.pop_front();
        running_ = true;
      }
      std::move(task)();
      MutexLock lock(mutex_);
      running_ = false;
    }
  }

  const size_t queue_max_;
  mutable Mutex mutex_;
  CondVar work_;
  std::deque<Task> tasks_ ABSL_GUARDED_BY(mutex_);
  bool running_ ABSL_GUARDED_BY(mutex_) = false;  // A task.
  bool stop_ ABSL_GUARDED_BY(mutex_) = false;

  Thread thread_;
};

}  // namespace cairn
