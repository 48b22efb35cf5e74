#include "src/waiting_line.h"

#include <algorithm>

namespace cairn {

void WaitingLine::Join(Wish* wish) {
  const Deadline now = SteadyNow();
  MutexLock lock(mutex_);
  wish->since_ = now;
  wishes_.push_back(wish);
}

void WaitingLine::Leave(Wish* wish) {
  bool moved = false;
  {
    const Deadline now = SteadyNow();
    MutexLock lock(mutex_);
    wishes_.remove(wish);
    moved = first_.load(std::memory_order_relaxed) == wish;
    if (moved) {
      first_.store(nullptr, std::memory_order_release);
      Advance(now);
    }
  }
  if (moved) moved_();
}

bool WaitingLine::MayTake(Wish* wish) {
  const Deadline now = SteadyNow();
  MutexLock lock(mutex_);
  Advance(now);
  const Wish* const first = first_.load(std::memory_order_relaxed);
  return first == nullptr || first == wish;
}

// Whose turn has ended wakes nobody here: all of them look again within a moment.
void WaitingLine::Advance(Deadline now) {
  if (Wish* const first = first_.load(std::memory_order_relaxed); first != nullptr) {
    if (now < turn_ends_) return;
    first->since_ = now;
    first->patience_ = std::min(2 * std::max(first->patience_, kTurn), kRestMax);
    first_.store(nullptr, std::memory_order_release);
  }
  const auto next = std::find_if(wishes_.begin(), wishes_.end(), [now](const Wish* wish) {
    return now - wish->since_ >= wish->patience_;
  });
  if (next == wishes_.end()) return;
  first_.store(*next, std::memory_order_release);
  turn_ends_ = now + kTurn;
}

}  // namespace cairn
