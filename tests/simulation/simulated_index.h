#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "io/raw_index.h"
#include "src/base/mutex.h"
#include "tests/simulation/fiber_schedule.h"
#include "tests/simulation/random.h"

namespace cairn {

// What an index has written to its log, over all openings: batches in order, of which a loss of
// power leaves those that were synced and any number of those right behind them. A batch whose
// commit failed may have reached the log all the same.
class IndexLog {
 public:
  struct Batch {
    std::vector<RawIndex::RawEdit> edits;
    bool failed = false;
  };

  void Append(Batch batch) { batches_.push_back(std::move(batch)); }
  size_t size() const { return batches_.size(); }
  void Synced(size_t count) { synced_ = std::max(synced_, count); }

  void PowerCut(Random& random) {
    batches_.resize(synced_ + random.Below(batches_.size() - synced_ + 1));
    synced_ = batches_.size();
  }
  // What an opening finds; decides about the failed batches for good.
  std::map<std::string, std::string, std::less<>> Replay(Random& random);

 private:
  std::vector<Batch> batches_;
  size_t synced_ = 0;
};

// An index whose log is simulated.
class SimulatedIndex final : public RawIndex {
 public:
  // One in so many commits and syncs fails, and often those behind it too; 0: none.
  struct Faults {
    uint64_t one_in = 0;
  };

  SimulatedIndex(FiberSchedule* schedule, IndexLog* log, const Faults* faults, uint64_t seed);

  absl::StatusOr<std::string> ReadRaw(std::string_view key) const override
      ABSL_LOCKS_EXCLUDED(mutex_);
  absl::Status WriteRaw(const std::vector<RawEdit>& edits, bool sync) override
      ABSL_LOCKS_EXCLUDED(mutex_);
  absl::Status ScanRaw(std::string_view prefix, RawVisitor visitor,
                       absl::FunctionRef<bool(std::string_view, const absl::Status&)> damaged)
      const override ABSL_LOCKS_EXCLUDED(mutex_);
  absl::StatusOr<std::string> LastRaw(std::string_view prefix) const override
      ABSL_LOCKS_EXCLUDED(mutex_);
  absl::Status Sync() override;
  absl::Status Reopen() override;

  // The moment of a crash: nothing reaches the log from here on.
  void CutOff() { gone_ = true; }

 private:
  bool Fails();
  void Dawdle(uint64_t us_max);

  FiberSchedule* const schedule_;
  IndexLog* const log_;
  const Faults* const faults_;
  Random random_;
  bool gone_ = false;
  uint64_t failures_left_ = 0;

  mutable Mutex mutex_;
  std::map<std::string, std::string, std::less<>> entries_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace cairn
