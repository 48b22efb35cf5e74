#pragma once

#include <atomic>
#include <chrono>
#include <functional>
#include <list>
#include <utility>

#include "src/base/clock.h"
#include "src/base/mutex.h"

namespace cairn {

// Those who wait for room of one kind. Room that comes is taken by whoever is quickest, which costs
// nothing, and a large tensor might wait for as long as small ones come: each takes what was let go
// for it. So who has waited for kPatience has a turn, in the order of their coming: nobody else
// takes any until that one has its room, or kTurn is over. Then it rests, longer each time, as what
// holds it up (pins, say) need not hold up others. Thread-safe.
class WaitingLine {
 public:
  static constexpr std::chrono::milliseconds kPatience{50};
  static constexpr std::chrono::milliseconds kTurn{500};
  static constexpr std::chrono::milliseconds kRestMax{8000};

  // `moved` is called when who had a turn has left: others may take room. Without a lock held.
  explicit WaitingLine(std::function<void()> moved) : moved_(std::move(moved)) {}

  // Somebody's wish for room, on the stack of who has it. For one thread.
  class Wish {
   public:
    explicit Wish(WaitingLine& line) : line_(line) {}
    ~Wish() {
      if (waits_) line_.Leave(this);
    }
    Wish(const Wish&) = delete;
    Wish& operator=(const Wish&) = delete;

    // Whether it may take what it finds. To be asked before each try.
    bool MayTake() { return waits_ ? line_.MayTake(this) : !line_.IsSomebodysTurn(); }
    // It found none, or may not take it: from now on it waits.
    void Join() {
      if (!std::exchange(waits_, true)) line_.Join(this);
    }

   private:
    friend class WaitingLine;
    WaitingLine& line_;
    bool waits_ = false;
    // The line's, under its lock.
    Deadline since_;  // It waits, or rests.
    std::chrono::milliseconds patience_ = kPatience;
  };

  // Whoever does not wait leaves the room alone.
  bool IsSomebodysTurn() const { return first_.load(std::memory_order_acquire) != nullptr; }

 private:
  void Join(Wish* wish) ABSL_LOCKS_EXCLUDED(mutex_);
  void Leave(Wish* wish) ABSL_LOCKS_EXCLUDED(mutex_);
  bool MayTake(Wish* wish) ABSL_LOCKS_EXCLUDED(mutex_);
  void Advance(Deadline now) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const std::function<void()> moved_;
  std::atomic<Wish*> first_ = nullptr;  // Whose turn it is. Written under the lock.

  Mutex mutex_;
  std::list<Wish*> wishes_ ABSL_GUARDED_BY(mutex_);  // As they came.
  Deadline turn_ends_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace cairn
