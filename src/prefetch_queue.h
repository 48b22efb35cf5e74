#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <tuple>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "cairn/key.h"
#include "cairn/options.h"
#include "cairn/stats.h"
#include "src/base/clock.h"
#include "src/base/mutex.h"

namespace cairn {

// What hosts said they will need and is not on its way yet, in the order in which it is due; and
// the account of what prefetches brought: how much of it is in flight, how much is in L2 and was
// not asked for yet, and how often it never was. From that it says when the next may begin.
//
// Bookkeeping only. Thread-safe; its lock is taken below that of a stripe.
class PrefetchQueue {
 public:
  struct Limits {
    size_t keys_max = 0;           // That wait.
    uint64_t ahead_bytes_max = 0;  // Brought or on their way, and not asked for yet.
    uint64_t in_flight_bytes_max = 0;
  };
  explicit PrefetchQueue(const Limits& limits) : limits_(limits) {}

  struct Want {
    std::string key;
    Level to = Level::kL2Pinned;
    std::optional<int> gpu;  // WillNeedOptions::gpu.
    bool due = false;        // By now.
  };
  // All or none of them: kResourceExhausted when too many wait.
  absl::StatusOr<PrefetchToken> Add(absl::Span<const TensorKey> keys,
                                    const WillNeedOptions& options, Deadline now);
  // How many of them have not begun, and now never will.
  size_t Cancel(PrefetchToken token);
  // The next that is due, when there is budget for more: both limits are passed by one tensor at
  // most.
  std::optional<Want> Pop(Deadline now);
  // How short memory is: from medium on there is less budget, at high none.
  void SetPressure(PressureLevel level);
  // Whether one that asks for no budget is to be dropped for that.
  bool Refuses(Deadline now);
  // Nothing waits any more, and nothing may.
  void Close();

  // ---- In flight: what was read for, whatever the key names by then ----
  void Departed(uint64_t bytes);
  void Arrived(uint64_t bytes);  // Or failed.

  // ---- The account ----
  // Who brings the tensor keeps the number, never 0, for Ended.
  uint32_t Began(uint64_t bytes, Deadline now);
  enum class End : uint8_t {
    kUsed,
    kLate,    // Asked for while it was on its way: used, if less so.
    kUnused,  // Left L2, or the store, before anybody asked.
    kFailed,
  };
  void Ended(uint32_t began, uint64_t bytes, End end);

  struct Figures {
    uint64_t waiting = 0;
    uint64_t ahead_bytes = 0;
    uint64_t used = 0;
    uint64_t late = 0;
    uint64_t unused = 0;
    uint64_t cancelled = 0;
  };
  Figures figures() const;
  bool empty() const { return waiting_.load(std::memory_order_relaxed) == 0; }

 private:
  // Due, priority (negated: the highest first), token: those of one call stand together.
  using Order = std::tuple<Deadline, int64_t, PrefetchToken>;
  struct Group {
    Level to;
    std::optional<int> gpu;
    std::vector<std::string> keys;
    size_t next = 0;
  };
  bool MayBegin(Deadline now) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void WriteOff(Deadline now) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const Limits limits_;
  mutable Mutex mutex_;
  std::map<Order, Group> groups_ ABSL_GUARDED_BY(mutex_);
  absl::flat_hash_map<PrefetchToken, Order> orders_ ABSL_GUARDED_BY(mutex_);
  PrefetchToken last_token_ ABSL_GUARDED_BY(mutex_) = 0;
  bool closed_ ABSL_GUARDED_BY(mutex_) = false;
  PressureLevel pressure_ ABSL_GUARDED_BY(mutex_) = PressureLevel::kLow;
  std::atomic<uint64_t> waiting_ = 0;        // Changed under the lock.
  Figures figures_ ABSL_GUARDED_BY(mutex_);  // But for what waits.
  uint64_t in_flight_bytes_ ABSL_GUARDED_BY(mutex_) = 0;
  // Of figures_.ahead_bytes, what began in each tenth of a minute. What nobody has asked for a
  // minute later is written off, or hints that were wrong would hold the later ones up for ever.
  std::map<uint32_t, uint64_t> ahead_bytes_ ABSL_GUARDED_BY(mutex_);
  // Of the last prefetches that ended used or not; halved now and then.
  uint64_t recent_ ABSL_GUARDED_BY(mutex_) = 0;
  uint64_t recent_used_ ABSL_GUARDED_BY(mutex_) = 0;
};

}  // namespace cairn
