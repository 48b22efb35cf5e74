#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "cairn/stats.h"
#include "io/store_files.h"
#include "src/base/clock.h"
#include "src/base/mutex.h"
#include "tiers/nvme_tier.h"

namespace cairn {

// Judges the drives of a store that has several (StoreOptions::data_paths) by what becomes of their
// requests. One that fails often, or is for long far slower than the others, is drained: nothing
// more is put there until the next Open, and what is there is read on, so that it leaves as it is
// replaced, or found unreadable and put again. One drive is always left in use. Thread-safe.
class DriveHealth {
 public:
  // Failed too often: this many of the last 256 requests or fewer, and one in this many.
  static constexpr uint64_t kErrorsMin = 8;
  static constexpr uint64_t kRequestsPerErrorMax = 8;
  static constexpr uint64_t kRecentMax = 256;
  // Too slow: the device takes this long for a request, and this many times as long as the median
  // of the other drives, in this many spans after one another. A drive that collects its garbage
  // stalls for a second or two; what is wrong with one does not pass.
  static constexpr uint64_t kSlowServiceUs = 20'000;
  static constexpr uint64_t kSlowRatio = 8;
  static constexpr uint32_t kSlowSpans = 3;
  static constexpr std::chrono::seconds kSpan{5};
  static constexpr uint64_t kSpanRequestsMin = 32;  // Fewer say nothing of a drive.

  // Both must outlive this.
  DriveHealth(const StoreFiles* files, NvmeTier* l3);

  // From time to time.
  void Judge(Deadline now) ABSL_LOCKS_EXCLUDED(mutex_);

  std::vector<DriveStats> Stats() const ABSL_LOCKS_EXCLUDED(mutex_);
  // Empty, or which are drained and why.
  std::string Drained() const ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  struct Drive {
    NvmeTier::DriveFigures last = {};        // At the turn before.
    NvmeTier::DriveFigures span_start = {};  // At the beginning of the span.
    uint64_t recent_requests = 0;            // Halved now and then.
    uint64_t recent_errors = 0;
    uint32_t slow_spans = 0;
    std::string drained;  // Not empty: it is, and why.
  };
  void JudgeErrors(size_t number) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void JudgeService() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Drain(size_t number, std::string why) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  // Constant.
  const StoreFiles* const files_;           // Open as long as drives are judged, and
  const std::vector<std::string> folders_;  // told of when it is closed.
  std::vector<uint32_t> weights_;
  NvmeTier* const l3_;

  mutable Mutex mutex_;
  std::vector<Drive> drives_ ABSL_GUARDED_BY(mutex_);
  Deadline span_end_ ABSL_GUARDED_BY(mutex_) = Deadline::min();
};

}  // namespace cairn
