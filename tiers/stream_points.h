#pragma once

#include <atomic>
#include <memory>
#include <optional>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "cairn/tensor.h"
#include "src/base/mutex.h"
#include "tiers/device.h"

namespace cairn {

class StreamPoints;

// A point in a stream of the host's behind what it was given before: what reads memory until then
// leaves it to others there. One is shared by all that asked for it before it was recorded, which
// is done as late as can be. Thread-safe.
class StreamPoint {
 public:
  StreamPoint(StreamPoints* points, StreamRef stream) : points_(points), stream_(stream) {}
  StreamPoint(const StreamPoint&) = delete;
  StreamPoint& operator=(const StreamPoint&) = delete;

  // Whether the stream was seen behind it. Never asks the driver.
  bool reached() const { return reached_.load(std::memory_order_acquire); }
  // What `waiting` is given from here on waits for the point, on the device. Not OK: it does not.
  absl::Status LetWait(StreamRef waiting);

 private:
  friend class StreamPoints;

  StreamPoints* const points_;
  const StreamRef stream_;
  // Constant once `recorded_`, which is set behind it; null where the device refused one.
  std::shared_ptr<DeviceEvent> event_;
  std::atomic<bool> recorded_ = false;
  std::atomic<bool> reached_ = false;
};

// Who reads a piece of memory yet. Guarded by whoever guards that.
class StreamReaders {
 public:
  void Add(std::shared_ptr<StreamPoint> point);
  // Whether one has not been seen behind its point.
  bool any() const;
  // As StreamPoint::LetWait, for all.
  absl::Status LetWait(StreamRef waiting) const;

 private:
  std::vector<std::shared_ptr<StreamPoint>> points_;  // Mostly one or none.
};

// The points of all streams of a device. Each event that is recorded serves whoever asked since the
// one before. Thread-safe, but for Look.
class StreamPoints {
 public:
  // Of one stream, events that were not reached yet: while there are so many no other is recorded,
  // unless somebody needs it. So who releases more than the device keeps up with makes no more
  // events, but coarser ones.
  static constexpr int kEventsAheadMax = 4;

  explicit StreamPoints(Device* device) : device_(device) {}

  // The next one of the stream. kInvalidArgument for a stream of another device. Asks the driver
  // for nothing, except for a stream that is another one in each thread: that is recorded here, and
  // the driver may refuse.
  absl::StatusOr<std::shared_ptr<StreamPoint>> Next(StreamRef stream) ABSL_LOCKS_EXCLUDED(mutex_);

  // Records what was asked for on the stream, or on all. Behind it the stream is not touched, until
  // the next time that it is asked for. kUnavailable: the device refused.
  absl::Status Record(StreamRef stream) ABSL_LOCKS_EXCLUDED(mutex_);
  absl::Status RecordAll() ABSL_LOCKS_EXCLUDED(mutex_);
  // From here on Next records by itself. Before RecordAll.
  void RecordAtOnce() ABSL_LOCKS_EXCLUDED(mutex_);

  // Records what may be recorded now, and looks which points are reached; true if one is that was
  // not. One that the device refused is reached when the whole device has nothing more to do, which
  // is waited for; one whose device has failed, at once: nothing runs there that could still read.
  // One thread at a time.
  bool Look() ABSL_LOCKS_EXCLUDED(mutex_);
  // Nothing was asked for that has not been reached.
  bool idle() const ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  friend class StreamPoint;
  using Points = std::vector<std::shared_ptr<StreamPoint>>;

  // Of the stream, or of all: what is open, where fewer events than these are ahead of it. When
  // nobody else records any more.
  absl::Status RecordOpen(std::optional<StreamRef> stream, int events_ahead)
      ABSL_LOCKS_EXCLUDED(mutex_);
  Points TakeOpen(std::optional<StreamRef> stream, int events_ahead)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::Status RecordOne(StreamPoint& point);
  bool Passed(const StreamPoint& point);

  Device* const device_;
  mutable Mutex mutex_;
  CondVar changed_;
  // By their streams: no event is recorded yet.
  absl::flat_hash_map<void*, std::shared_ptr<StreamPoint>> open_ ABSL_GUARDED_BY(mutex_);
  Points recorded_ ABSL_GUARDED_BY(mutex_);         // And not reached.
  bool recording_ ABSL_GUARDED_BY(mutex_) = false;  // By one thread, without the lock.
  bool record_at_once_ ABSL_GUARDED_BY(mutex_) = false;
};

}  // namespace cairn
