#include "src/async_deadlines.h"

#include <string>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "src/base/strings.h"

namespace cairn {

void AsyncDeadlines::Stop() {
  {
    MutexLock lock(mutex_);
    stop_ = true;
    wake_.NotifyAll();
  }
  thread_.Join();
}

AsyncDeadlines::Place AsyncDeadlines::Keep(Deadline deadline, std::string_view key, Awaited awaited,
                                           End end) {
  MutexLock lock(mutex_);
  const Place place = {deadline, ++last_number_};
  kept_.emplace(place, Kept{key, awaited, std::move(end)});
  // Most are later than what is waited for.
  if (deadline < wakes_at_) wake_.NotifyAll();
  return place;
}

void AsyncDeadlines::Await(const Place& place, Awaited awaited) {
  MutexLock lock(mutex_);
  if (const auto found = kept_.find(place); found != kept_.end()) found->second.awaited = awaited;
}

AsyncDeadlines::End AsyncDeadlines::Take(const Place& place) {
  MutexLock lock(mutex_);
  const auto found = kept_.find(place);
  if (found == kept_.end()) {
    late_count_.fetch_sub(1, std::memory_order_relaxed);
    return nullptr;
  }
  End end = std::move(found->second.end);
  kept_.erase(found);
  return end;
}

// The codes of a Get that waits by itself.
absl::Status AsyncDeadlines::LateStatus(const Kept& kept) {
  const std::string key = PrintableKey(kept.key);
  if (kept.awaited == Awaited::kLoad) {
    return absl::DeadlineExceededError(absl::StrCat("tensor ", key, " is still being loaded"));
  }
  const char* const tier = kept.awaited == Awaited::kRoomInL1 ? "L1" : "L2";
  return absl::ResourceExhaustedError(
      absl::StrCat(tier, " is full: tensor ", key, " still waits for room"));
}

void AsyncDeadlines::Run() {
  while (true) {
    End end;
    absl::Status late;
    {
      MutexLock lock(mutex_);
      while (!stop_ && (kept_.empty() || kept_.begin()->first.deadline > SteadyNow())) {
        wakes_at_ = kept_.empty() ? Deadline::max() : kept_.begin()->first.deadline;
        if (kept_.empty()) {
          wake_.Wait(mutex_);
        } else {
          wake_.WaitUntil(mutex_, wakes_at_);
        }
      }
      if (stop_) return;
      const auto first = kept_.begin();
      end = std::move(first->second.end);
      late = LateStatus(first->second);
      kept_.erase(first);
      late_count_.fetch_add(1, std::memory_order_relaxed);
    }
    stats_->CountUnserved(late);
    std::move(end)(std::move(late));
  }
}

}  // namespace cairn
