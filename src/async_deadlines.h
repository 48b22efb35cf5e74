#pragma once

#include <atomic>
#include <compare>
#include <cstdint>
#include <map>
#include <string_view>
#include <utility>

#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "cairn/handle.h"
#include "src/base/clock.h"
#include "src/base/mutex.h"
#include "src/base/thread.h"
#include "src/stats_recorder.h"

namespace cairn {

// What ends an asynchronous get whose time is up while it waits for room, or its load goes on. A
// get that begins to wait leaves its end here. Whoever takes it, the get or this at the deadline,
// ends the call: so it ends once, and whom it would tell may be gone when the load ends. One thread
// for all. Thread-safe; its lock is taken below that of a stripe.
class AsyncDeadlines {
 public:
  using End = absl::AnyInvocable<void(absl::StatusOr<TensorHandle>) &&>;

  // `stats`, which must outlive this, hears of whom it ends.
  explicit AsyncDeadlines(StatsRecorder* stats) : stats_(stats) {}
  ~AsyncDeadlines() { Stop(); }

  // Once, before the first get.
  absl::Status Start() {
    return thread_.Start("cairn-deadlines", [this] { Run(); });
  }

  // Nothing ends by its deadline from here on.
  void Stop() ABSL_LOCKS_EXCLUDED(mutex_);

  // Where an end is kept.
  struct Place {
    Deadline deadline;
    uint64_t number = 0;  // 0: nowhere.

    friend auto operator<=>(const Place& a, const Place& b) = default;
  };
  // Which it waits for says how it ends here: with kResourceExhausted or kDeadlineExceeded.
  enum class Awaited : uint8_t { kRoomInL1, kRoomInL2, kLoad };
  // `key` must stay until Take.
  Place Keep(Deadline deadline, std::string_view key, Awaited awaited, End end)
      ABSL_LOCKS_EXCLUDED(mutex_);
  // It waits for something else from here on. Nothing to do when its deadline has passed.
  void Await(const Place& place, Awaited awaited) ABSL_LOCKS_EXCLUDED(mutex_);
  // Once for each. Empty: its deadline has passed, and the call has ended.
  End Take(const Place& place) ABSL_LOCKS_EXCLUDED(mutex_);

  // Gets whose calls have ended so, and which still wait.
  uint64_t late_count() const { return late_count_.load(std::memory_order_relaxed); }

 private:
  struct Kept {
    std::string_view key;
    Awaited awaited;
    End end;
  };
  static absl::Status LateStatus(const Kept& kept);
  void Run() ABSL_LOCKS_EXCLUDED(mutex_);

  StatsRecorder* const stats_;

  Mutex mutex_;
  CondVar wake_;
  std::map<Place, Kept> kept_ ABSL_GUARDED_BY(mutex_);
  uint64_t last_number_ ABSL_GUARDED_BY(mutex_) = 0;
  Deadline wakes_at_ ABSL_GUARDED_BY(mutex_) = Deadline::max();
  bool stop_ ABSL_GUARDED_BY(mutex_) = false;
  std::atomic<uint64_t> late_count_ = 0;

  Thread thread_;
};

}  // namespace cairn
