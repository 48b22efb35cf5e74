#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>

namespace cairn {

// Who runs next and what time it is, where something other than the operating system decides: the
// deterministic simulation in tests/simulation. Mutex, CondVar, Thread and the clock ask it when
// one is set, which costs a store one predictable branch each: so what is simulated is the very
// code that is shipped, not a second build of it.
class Schedule {
 public:
  using Time = std::chrono::steady_clock::time_point;

  virtual ~Schedule() = default;

  virtual void Lock(const void* mutex) = 0;
  virtual void Unlock(const void* mutex) = 0;
  // Gives the mutex up and has it again on return. False: the deadline has passed.
  virtual bool Wait(const void* condition, const void* mutex, Time deadline) = 0;
  virtual void Notify(const void* condition, bool all) = 0;
  // A number for JoinThread, never 0.
  virtual uint64_t StartThread(std::function<void()> body) = 0;
  virtual void JoinThread(uint64_t thread) = 0;
  virtual Time Now() = 0;
  virtual void SleepUntil(Time time) = 0;

  // Null: the operating system decides.
  static Schedule* Current() { return current_.load(std::memory_order_relaxed); }
  // Only while no thread but the caller's uses anything of this library.
  static void Set(Schedule* schedule) { current_.store(schedule, std::memory_order_relaxed); }

 private:
  static inline constinit std::atomic<Schedule*> current_ = nullptr;
};

}  // namespace cairn
