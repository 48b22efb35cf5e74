#pragma once

#include <cstdint>
#include <thread>
#include <utility>

#include "src/base/schedule.h"

namespace cairn {

// A thread of the store. Thread-compatible.
class Thread {
 public:
  Thread() = default;
  ~Thread() { Join(); }
  Thread(const Thread&) = delete;
  Thread& operator=(const Thread&) = delete;

  // Once.
  template <typename Body>
  void Start(Body body) {
    if (Schedule* schedule = Schedule::Current()) [[unlikely]] {
      simulated_ = schedule->StartThread(std::move(body));
    } else {
      thread_ = std::jthread(std::move(body));
    }
  }

  // Waits for its end; nothing to do when it was not started, or joined before.
  void Join() {
    if (simulated_ != 0) Schedule::Current()->JoinThread(std::exchange(simulated_, 0));
    if (thread_.joinable()) thread_.join();
  }

 private:
  std::jthread thread_;
  uint64_t simulated_ = 0;
};

}  // namespace cairn
