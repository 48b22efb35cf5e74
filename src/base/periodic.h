#pragma once

#include <chrono>
#include <utility>

#include "absl/status/status.h"
#include "src/base/clock.h"
#include "src/base/mutex.h"
#include "src/base/thread.h"

namespace cairn {

// A thread that does one thing now and then, until it is stopped. Thread-compatible.
class Periodic {
 public:
  using Delay = std::chrono::milliseconds;

  ~Periodic() { Stop(); }

  // Once. Calls `turn` after `first`, and again so long after its end as it says.
  template <typename Turn>
  absl::Status Start(const char* name, Delay first, Turn turn) {
    const absl::Status status =
        thread_.Start(name, [this, first, turn = std::move(turn)]() mutable {
          for (Delay delay = first; Sleep(delay);) delay = turn();
        });
    started_ = status.ok();
    return status;
  }

  // Waits for the end of a turn. False: it was not started, or is stopped already.
  bool Stop() {
    {
      MutexLock lock(mutex_);
      stop_ = true;
      wake_.NotifyAll();
    }
    thread_.Join();
    return std::exchange(started_, false);
  }

 private:
  // False: stopped.
  bool Sleep(Delay delay) {
    const Deadline end = SteadyNow() + delay;
    MutexLock lock(mutex_);
    while (!stop_ && wake_.WaitUntil(mutex_, end)) {
    }
    return !stop_;
  }

  Mutex mutex_;
  CondVar wake_;
  bool stop_ ABSL_GUARDED_BY(mutex_) = false;
  bool started_ = false;
  Thread thread_;
};

}  // namespace cairn
