#pragma once

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>

#include "absl/time/time.h"
#include "src/base/clock.h"
#include "src/base/mutex.h"

namespace cairn {

// How fast L3 reads of late, and so when what is asked for now would be there. It knows no
// requests, only when reads begin and end; all drives are one device to it.
//
// The rate is learnt while kBusyBytes or more are under way: the bytes that end in such a time, by
// its length. It is their mean, in which what was read kMemory of such time ago counts a third.
// With less under way the time of a read is that of its way and not of its bytes: from these the
// latency is learnt. So a lone small read neither waits for bandwidth nor lowers it. Thread-safe;
// a lock is taken where a busy time begins or ends, and every kSpan within.
class ReadRate {
 public:
  static constexpr uint64_t kBusyBytes = uint64_t{1} << 20;
  static constexpr std::chrono::milliseconds kSpan{50};
  static constexpr std::chrono::seconds kMemory{1};
  // Until a drive was seen to read. They weigh as kPriorWeight of busy time.
  static constexpr uint64_t kPriorBytesPerSecond = uint64_t{1} << 30;  // Of each drive.
  static constexpr int64_t kPriorLatencyUs = 100;
  static constexpr std::chrono::milliseconds kPriorWeight{10};

  explicit ReadRate(size_t drives);

  // Are with the engine from here on.
  void Begin(uint64_t bytes, Deadline now);
  // Of those. What failed took its time and brought nothing. `service_us` as IoOp's; 0: not known.
  struct Read {
    uint64_t bytes = 0;
    bool ok = true;
    int64_t service_us = 0;
  };
  void End(const Read& read, Deadline now);

  uint64_t bytes_under_way() const { return under_way_.load(std::memory_order_relaxed); }
  uint64_t bytes_per_second(Deadline now) ABSL_LOCKS_EXCLUDED(mutex_);
  int64_t latency_us() const { return latency_us_.load(std::memory_order_relaxed); }
  // How long until so many bytes have been read that are asked for behind all that is under way.
  absl::Duration Arrival(uint64_t bytes, Deadline now) ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  static int64_t Nanoseconds(Deadline time) { return time.time_since_epoch().count(); }
  // Learns from the busy time so far, and begins another if it is one.
  void Turn(Deadline now) ABSL_LOCKS_EXCLUDED(mutex_);

  // Relaxed: each is true by itself. Who has changed under_way_ across kBusyBytes takes a turn, and
  // a turn looks at it under the lock; so the last of several finds what is.
  std::atomic<uint64_t> under_way_ = 0;
  std::atomic<uint64_t> read_bytes_ = 0;  // While busy, since the last turn.
  std::atomic<int64_t> turn_due_ns_ = INT64_MAX;
  std::atomic<uint64_t> bytes_per_second_;
  std::atomic<int64_t> latency_us_ = kPriorLatencyUs;

  Mutex mutex_;
  bool busy_ ABSL_GUARDED_BY(mutex_) = false;
  Deadline span_begin_ ABSL_GUARDED_BY(mutex_);
  // Of all busy time, each weighed by how long ago it was.
  double seconds_ ABSL_GUARDED_BY(mutex_);
  double bytes_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace cairn
