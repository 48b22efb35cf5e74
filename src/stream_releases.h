#pragma once

#include <deque>
#include <memory>

#include "absl/status/status.h"
#include "cairn/tensor.h"
#include "src/base/mutex.h"
#include "src/base/thread.h"
#include "src/directory.h"
#include "src/entry.h"
#include "src/gpu.h"
#include "tiers/device.h"
#include "tiers/stream_points.h"

namespace cairn {

// Handles that are given up in the order of one GPU's streams. A pin in its L1 goes at once, and
// the copy remembers up to where the stream may read it. One in L2, whose memory others write
// without a stream, or in the L1 of another GPU, which cannot wait for this one's events, goes when
// the stream has come there. A thread of its own, started with the first of them, records events
// and looks for them every half millisecond while there are any: so the streams are not held up by
// a call back into the host, nor one GPU by another whose driver has to be waited for. Thread-safe.
class StreamReleases {
 public:
  StreamReleases(Directory* directory, Gpu* gpu)
      : directory_(directory), gpu_(gpu), points_(gpu->device.get()) {}
  // Waits for the streams.
  ~StreamReleases();

  // The pin may be on any tier. On a status other than OK it is the caller's yet.
  absl::Status Add(StreamRef stream, Pin pin) ABSL_LOCKS_EXCLUDED(mutex_);
  // Behind it no stream that was named before is touched, or that one is not. kUnavailable: the
  // device refused an event, and is waited for as a whole.
  absl::Status ForgetStream(StreamRef stream) { return points_.Record(stream); }
  void ForgetStreams();

 private:
  struct Pending {
    std::shared_ptr<StreamPoint> point;
    Pin pin;
  };

  absl::Status StartOnce() ABSL_LOCKS_EXCLUDED(mutex_);
  void Run() ABSL_LOCKS_EXCLUDED(mutex_);
  void UnpinPassed() ABSL_LOCKS_EXCLUDED(mutex_);

  Directory* const directory_;
  Gpu* const gpu_;
  StreamPoints points_;
  Mutex mutex_;
  CondVar changed_;
  std::deque<Pending> pending_ ABSL_GUARDED_BY(mutex_);  // Not in this L1.
  bool started_ ABSL_GUARDED_BY(mutex_) = false;
  bool stop_ ABSL_GUARDED_BY(mutex_) = false;

  Thread thread_;
};

}  // namespace cairn
