#pragma once

#include <memory>
#include <utility>

#include "absl/status/status.h"
#include "src/base/mutex.h"
#include "src/directory.h"
#include "src/entry.h"
#include "src/evictor.h"

namespace cairn {

// A thread that sleeps until a fill or a spill ends, and may give up at a deadline. The directory
// holds a waiter that lives by itself; the state between the two is shared, so neither minds the
// other's end.

class FillWait {
 public:
  explicit FillWait(Directory* directory) : state_(std::make_shared<State>()) {
    state_->directory = directory;
  }

  // To be linked once; deletes itself when woken.
  FillWaiter* NewWaiter() { return new Waiter(state_); }
  // When it was not linked after all.
  static void Discard(FillWaiter* waiter) { delete waiter; }

  // False at the deadline: the pin of a later end is then given back. Else `pin` as in OnFilled.
  bool Wait(Deadline deadline, absl::Status* status, Pin* pin) {
    State& state = *state_;
    MutexLock lock(state.mutex);
    while (!state.done) {
      if (!state.ended.WaitUntil(state.mutex, deadline) && !state.done) {
        state.abandoned = true;
        return false;
      }
    }
    *status = state.status;
    *pin = state.pin;
    return true;
  }

 private:
  struct State {
    Directory* directory = nullptr;
    Mutex mutex;
    CondVar ended;
    bool done ABSL_GUARDED_BY(mutex) = false;
    bool abandoned ABSL_GUARDED_BY(mutex) = false;
    absl::Status status ABSL_GUARDED_BY(mutex);
    Pin pin ABSL_GUARDED_BY(mutex);
  };
  class Waiter final : public FillWaiter {
   public:
    explicit Waiter(std::shared_ptr<State> state) : state_(std::move(state)) {}
    void OnFilled(absl::Status status, Pin pin) override {
      bool abandoned = false;
      {
        MutexLock lock(state_->mutex);
        abandoned = state_->abandoned;
        state_->done = true;
        state_->status = std::move(status);
        state_->pin = pin;
        state_->ended.NotifyAll();
      }
      if (abandoned && pin.entry != nullptr) state_->directory->Unpin(pin);
      delete this;
    }

   private:
    const std::shared_ptr<State> state_;
  };

  const std::shared_ptr<State> state_;
};

class SpillWait {
 public:
  SpillWaiter* NewWaiter() { return new Waiter(state_); }
  static void Discard(SpillWaiter* waiter) { delete waiter; }

  // kDeadlineExceeded, or how the spill ended.
  absl::Status Wait(Deadline deadline) {
    State& state = *state_;
    MutexLock lock(state.mutex);
    while (!state.done) {
      if (!state.ended.WaitUntil(state.mutex, deadline) && !state.done) {
        return absl::DeadlineExceededError("the write to L3 goes on");
      }
    }
    return state.status;
  }

 private:
  struct State {
    Mutex mutex;
    CondVar ended;
    bool done ABSL_GUARDED_BY(mutex) = false;
    absl::Status status ABSL_GUARDED_BY(mutex);
  };
  class Waiter final : public SpillWaiter {
   public:
    explicit Waiter(std::shared_ptr<State> state) : state_(std::move(state)) {}
    void OnSpilled(absl::Status status) override {
      {
        MutexLock lock(state_->mutex);
        state_->done = true;
        state_->status = std::move(status);
        state_->ended.NotifyAll();
      }
      delete this;
    }

   private:
    const std::shared_ptr<State> state_;
  };

  const std::shared_ptr<State> state_ = std::make_shared<State>();
};

}  // namespace cairn
