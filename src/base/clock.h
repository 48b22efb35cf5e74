#pragma once

#include <chrono>
#include <thread>

#include "src/base/schedule.h"

namespace cairn {

using Deadline = std::chrono::steady_clock::time_point;

// The clock of deadlines and leases.
inline std::chrono::steady_clock::time_point SteadyNow() {
  if (Schedule* schedule = Schedule::Current()) [[unlikely]]
    return schedule->Now();
  return std::chrono::steady_clock::now();
}

inline void SleepFor(std::chrono::nanoseconds duration) {
  if (Schedule* schedule = Schedule::Current()) [[unlikely]] {
    return schedule->SleepUntil(schedule->Now() + duration);
  }
  std::this_thread::sleep_for(duration);
}

}  // namespace cairn
