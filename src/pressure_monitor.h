#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "cairn/stats.h"
#include "src/base/mutex.h"
#include "src/base/periodic.h"
#include "src/directory.h"
#include "src/evictor.h"
#include "src/l2_sections.h"
#include "src/machine/memory_pressure.h"
#include "src/prefetch_queue.h"

namespace cairn {

// Reads how short memory is and has the store give way, as StoreOptions::heed_memory_pressure says:
// a thread of its own, for L2's memory comes and goes slowly. Thread-safe.
class PressureMonitor {
 public:
  struct Parts {
    Directory* directory;
    Evictor* evictor;
    PrefetchQueue* prefetches;
    PrefetchQueue* predictions;
    L2Sections* sections;
    uint64_t l2_bytes_min;
    std::function<PressureReadings()> read;
    std::function<void(std::string_view line)> log;
  };
  explicit PressureMonitor(Parts parts) : parts_(std::move(parts)) {}
  ~PressureMonitor() { Stop(); }

  absl::Status Start();
  void Stop() { turns_.Stop(); }

  PressureStats Stats() const ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  // The thread's.
  void Turn() ABSL_LOCKS_EXCLUDED(mutex_);
  void Note(const PressureReadings& readings, PressureLevel before) ABSL_LOCKS_EXCLUDED(mutex_);
  void Say(PressureLevel before, uint32_t percent);
  // `now`: what is not on L3 yet is let go too, as far as must be.
  void GiveBack(uint64_t bytes_wanted, bool now) ABSL_LOCKS_EXCLUDED(mutex_);
  void Choose(uint64_t bytes);
  bool IsTimeForOneSection();
  // Those that leave for so long stay.
  void KeepLeaving(uint32_t turns_min);
  void Grow(const PressureReadings& readings) ABSL_LOCKS_EXCLUDED(mutex_);

  const Parts parts_;

  // The thread's.
  PressureGauge gauge_;
  MemoryTrend trend_;  // Since L2 took memory last.
  PressureGauge gpu_gauge_;
  struct Leaving {
    size_t section = 0;
    uint32_t turns = 0;  // For so many.
  };
  std::vector<Leaving> leaving_;
  Deadline one_section_at_;
  Deadline said_at_ = Deadline() - std::chrono::hours(24);

  mutable Mutex mutex_;
  PressureStats stats_ ABSL_GUARDED_BY(mutex_);

  Periodic turns_;
};

}  // namespace cairn
