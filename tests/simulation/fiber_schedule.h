#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "src/base/schedule.h"
#include "tests/simulation/random.h"

namespace cairn {

// Runs a program's threads as fibers of one thread of the system: at each lock, unlock, wait and
// notification the seed says who goes on, and time is a number that goes up a little with each
// step and jumps to the next deadline when nobody can run. The same seed, the same run.
//
// Fibers and not threads that pass a baton: a switch costs a tenth, and so the seed can afford one
// at every step. What is not tried this way is an order of memory that only several cores show;
// the stress test under ThreadSanitizer is for that.
//
// What cannot go on (a deadlock, a wait of ten minutes, a thread that spins) ends the process with
// the state of every fiber; so does a mutex that its holder takes twice.
class FiberSchedule final : public Schedule {
 public:
  explicit FiberSchedule(uint64_t seed);
  ~FiberSchedule() override;

  // Runs `body` as the first thread, as the current schedule, until every thread has ended.
  void Run(const std::function<void()>& body);

  void Lock(const void* mutex) override;
  void Unlock(const void* mutex) override;
  bool Wait(const void* condition, const void* mutex, Time deadline) override;
  void Notify(const void* condition, bool all) override;
  uint64_t StartThread(std::function<void()> body) override;
  void JoinThread(uint64_t thread) override;
  Time Now() override;
  void SleepUntil(Time time) override;

  // For the fiber that runs.
  void Name(const std::string& name);
  size_t locks_held() const;
  // Calls `ring` once, when the run comes to this step, between two steps of whatever fiber. It
  // must not give way to others.
  void SetAlarm(uint64_t step, std::function<void()> ring);
  // Puts off the end of what is taken for a hang.
  void Progress();

  // Into the digest of the run, which begins with the seed and takes in every decision.
  void Note(uint64_t what) { digest_ = (digest_ ^ what) * 0x100000001b3 + (digest_ >> 32); }
  uint64_t digest() const { return digest_; }
  // Grows with every step of the run: the order of what happens.
  uint64_t step() const { return steps_; }
  uint64_t switches() const { return switches_; }

 private:
  struct Fiber;
  struct Stack;
  struct Held {
    const void* mutex = nullptr;
    Fiber* owner = nullptr;
  };

  static void Enter();
  Fiber* OwnerOf(const void* mutex) const;
  void Take(const void* mutex);
  void GiveUp(const void* mutex);
  // A step of the run; another fiber may go on.
  void Step();
  void Tick();
  // Lets others run until this one can.
  void Block();
  Fiber* Next();
  Fiber* Choose(const std::vector<Fiber*>& ready);
  void SwitchTo(Fiber* fiber);
  [[noreturn]] void Hang(const char* why);

  Random random_;
  uint64_t digest_;
  uint64_t steps_ = 0;
  uint64_t switches_ = 0;
  uint64_t now_ns_;
  uint64_t alarm_step_ = UINT64_MAX;
  std::function<void()> alarm_;
  uint64_t progress_ns_ = 0;
  uint64_t progress_steps_ = 0;
  // Of this seed: how long a step takes, one in how many steps switches, and whether one fiber is
  // slow for a while.
  uint64_t step_ns_;
  uint64_t switch_one_in_;
  bool starves_;
  uint64_t starved_ = 0;  // A fiber's number: its address may be used again.

  std::vector<std::unique_ptr<Fiber>> fibers_;  // In order of their start; ended ones leave.
  std::vector<std::unique_ptr<Stack>> stacks_;  // Of ended fibers.
  std::vector<Held> held_;
  Fiber* current_ = nullptr;
  std::unique_ptr<Fiber> ended_;  // Its stack is free once another runs.
  uint64_t last_number_ = 0;
};

}  // namespace cairn
