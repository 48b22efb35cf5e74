#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>

#include "absl/base/thread_annotations.h"
#include "src/base/mutex.h"

namespace cairn::offload {

// What a run says while it goes, on standard error: a bar on a terminal, else a line every tenth
// of the way; and lines of others in between, which never run into the bar. Thread-safe.
class Progress {
 public:
  explicit Progress(uint64_t requests);

  void RequestDone() ABSL_LOCKS_EXCLUDED(mutex_);
  void Line(std::string_view text) ABSL_LOCKS_EXCLUDED(mutex_);
  // Takes the bar away.
  void End() ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  using Clock = std::chrono::steady_clock;

  void DrawBar(Clock::time_point now) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void ClearBar() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void PrintTenth(Clock::time_point now) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const uint64_t requests_;
  const bool terminal_;
  const Clock::time_point begin_;

  Mutex mutex_;
  uint64_t done_ ABSL_GUARDED_BY(mutex_) = 0;
  bool bar_drawn_ ABSL_GUARDED_BY(mutex_) = false;
  Clock::time_point bar_drawn_at_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace cairn::offload
