#pragma once

#include <cstdint>
#include <thread>
#include <utility>

#include "absl/status/status.h"
#include "src/base/schedule.h"
#include "src/base/start_thread.h"

namespace cairn {

// A thread of the store. Thread-compatible.
class Thread {
 public:
  Thread() = default;
  ~Thread() { Join(); }
  Thread(const Thread&) = delete;
  Thread& operator=(const Thread&) = delete;

  // Once, unless it fails: kResourceExhausted. The name has 15 characters at most.
  template <typename Body>
  absl::Status Start(const char* name, Body body) {
    if (Schedule* schedule = Schedule::Current()) [[unlikely]] {
      simulated_ = schedule->StartThread(std::move(body));
      return absl::OkStatus();
    }
    return StartThread(thread_, name, std::move(body));
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
