#pragma once

#include <algorithm>
#include <memory>
#include <utility>
#include <vector>

#include "src/base/schedule.h"

namespace cairn {

// Something a thread may sleep on, which outlives its owner until it has been woken.
class Wakeable {
 public:
  virtual ~Wakeable() = default;
  virtual void Wake() = 0;
};

// While one lives on a thread, what that thread would wake is gathered here and woken together: a
// sleeper that is woken by each of many small completions runs, and goes to sleep again, as often.
class WakeScope {
 public:
  // Not among fibers, which share a thread and end in any order.
  WakeScope() : is_open_(Schedule::Current() == nullptr) {
    if (is_open_) outer_ = std::exchange(current, this);
  }
  ~WakeScope() {
    WakeAll();
    if (is_open_) current = outer_;
  }
  WakeScope(const WakeScope&) = delete;
  WakeScope& operator=(const WakeScope&) = delete;

  // At once where no scope is open.
  static void Wake(std::shared_ptr<Wakeable> sleeper) {
    if (current == nullptr) return sleeper->Wake();
    std::vector<std::shared_ptr<Wakeable>>& gathered = current->gathered_;
    if (std::find(gathered.begin(), gathered.end(), sleeper) != gathered.end()) return;
    gathered.push_back(std::move(sleeper));
  }

  // Those that were gathered so far need not wait for the rest.
  void WakeAll() {
    for (const std::shared_ptr<Wakeable>& sleeper : gathered_) sleeper->Wake();
    gathered_.clear();
  }

 private:
  static inline thread_local WakeScope* current = nullptr;

  const bool is_open_;
  WakeScope* outer_ = nullptr;
  std::vector<std::shared_ptr<Wakeable>> gathered_;
};

}  // namespace cairn
