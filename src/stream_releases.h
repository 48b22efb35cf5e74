#pragma once

#include <deque>
#include <memory>

#include "absl/status/status.h"
#include "cairn/tensor.h"
#include "src/base/mutex.h"
#include "src/base/thread.h"
#include "src/directory.h"
#include "src/entry.h"
#include "tiers/device.h"

namespace cairn {

// Pins that go when a GPU stream gets to a point. A thread of its own, started with the first of
// them, looks every half millisecond while there are any: so the streams themselves are not held up
// by a call back into the host. Thread-safe.
class StreamReleases {
 public:
  StreamReleases(Directory* directory, Device* device) : directory_(directory), device_(device) {}
  // Waits for the streams.
  ~StreamReleases();

  // The pin is the entry's in the tier of `level`. On a status other than OK it is the caller's
  // yet.
  absl::Status Add(StreamRef stream, Entry* entry, Level level) ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  struct Pending {
    std::shared_ptr<DeviceEvent> event;
    Entry* entry;
    Level level;
  };

  void Run() ABSL_LOCKS_EXCLUDED(mutex_);

  Directory* const directory_;
  Device* const device_;
  Mutex mutex_;
  CondVar changed_;
  std::deque<Pending> pending_ ABSL_GUARDED_BY(mutex_);
  bool started_ ABSL_GUARDED_BY(mutex_) = false;
  bool stop_ ABSL_GUARDED_BY(mutex_) = false;

  Thread thread_;
};

}  // namespace cairn
