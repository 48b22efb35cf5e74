#include "tests/simulation/simulated_index.h"

#include <utility>

#include "src/base/clock.h"

namespace cairn {
namespace {

using Entries = std::map<std::string, std::string, std::less<>>;

void Apply(const std::vector<RawIndex::RawEdit>& edits, Entries& entries) {
  for (const RawIndex::RawEdit& edit : edits) {
    if (edit.kind == IndexEdit::Kind::kPut) {
      entries.insert_or_assign(edit.key, edit.value);
    } else {
      entries.erase(edit.key);
    }
  }
}

bool StartsWith(std::string_view text, std::string_view prefix) {
  return text.substr(0, prefix.size()) == prefix;
}

}  // namespace

Entries IndexLog::Replay(Random& random) {
  Entries entries;
  for (Batch& batch : batches_) {
    if (batch.failed && random.OneIn(2)) batch.edits.clear();
    batch.failed = false;
    Apply(batch.edits, entries);
  }
  return entries;
}

SimulatedIndex::SimulatedIndex(FiberSchedule* schedule, IndexLog* log, const Faults* faults,
                               uint64_t seed)
    : schedule_(schedule), log_(log), faults_(faults), random_(seed) {
  MutexLock lock(mutex_);
  entries_ = log_->Replay(random_);
}

absl::StatusOr<std::string> SimulatedIndex::ReadRaw(std::string_view key) const {
  MutexLock lock(mutex_);
  const auto found = entries_.find(key);
  if (found == entries_.end()) return absl::NotFoundError("no such index entry");
  return found->second;
}

bool SimulatedIndex::Fails() {
  if (failures_left_ > 0) {
    --failures_left_;
    return true;
  }
  if (faults_->one_in == 0 || !random_.OneIn(faults_->one_in)) return false;
  failures_left_ = random_.OneIn(2) ? 0 : random_.Below(4);
  return true;
}

void SimulatedIndex::Dawdle(uint64_t us_max) {
  SleepFor(std::chrono::microseconds(random_.Below(us_max) + 1));
}

absl::Status SimulatedIndex::WriteRaw(const std::vector<RawEdit>& edits, bool sync) {
  if (random_.OneIn(4)) Dawdle(200);
  if (gone_) return absl::UnavailableError("the index is gone");
  const bool fails = Fails();
  schedule_->Note(edits.size() * 4 + (sync ? 2 : 0) + (fails ? 1 : 0));
  log_->Append({.edits = edits, .failed = fails});
  if (fails) return absl::UnavailableError("the index refused a commit");
  const size_t length = log_->size();
  // In the log, and not yet said to be.
  if (sync || random_.OneIn(4)) Dawdle(sync ? 2000 : 100);
  if (gone_) return absl::UnavailableError("the index is gone");
  if (sync) log_->Synced(length);
  MutexLock lock(mutex_);
  Apply(edits, entries_);
  return absl::OkStatus();
}

absl::Status SimulatedIndex::Sync() {
  const size_t length = log_->size();
  if (gone_) return absl::UnavailableError("the index is gone");
  Dawdle(1000);
  if (gone_ || Fails()) return absl::UnavailableError("the index refused a sync");
  log_->Synced(length);
  return absl::OkStatus();
}

absl::Status SimulatedIndex::Reopen() {
  if (failures_left_ == 0) return absl::OkStatus();
  if (gone_ || random_.OneIn(2)) return absl::UnavailableError("the index is still refused");
  failures_left_ = 0;
  return absl::OkStatus();
}

absl::Status SimulatedIndex::ScanRaw(
    std::string_view prefix, RawVisitor visitor,
    absl::FunctionRef<bool(std::string_view, const absl::Status&)> /*damaged*/) const {
  Entries entries;
  {
    MutexLock lock(mutex_);
    entries = entries_;
  }
  for (auto entry = entries.lower_bound(prefix); entry != entries.end(); ++entry) {
    if (!StartsWith(entry->first, prefix) || !visitor(entry->first, entry->second)) break;
  }
  return absl::OkStatus();
}

absl::StatusOr<std::string> SimulatedIndex::LastRaw(std::string_view prefix) const {
  MutexLock lock(mutex_);
  std::string last;
  for (auto entry = entries_.lower_bound(prefix); entry != entries_.end(); ++entry) {
    if (!StartsWith(entry->first, prefix)) break;
    last = entry->first;
  }
  if (last.empty()) return absl::NotFoundError("no index entry of this kind");
  return last;
}

}  // namespace cairn
