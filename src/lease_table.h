#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <utility>
#include <vector>

#include "src/base/mutex.h"
#include "src/directory.h"
#include "src/evictor.h"

namespace cairn {

// The leases that are out, and when they end by themselves. Thread-safe.
class LeaseTable {
 public:
  explicit LeaseTable(Directory* directory) : directory_(directory) {}

  // Takes entries on which AddLease was called. Returns the lease's number, never 0.
  uint64_t Grant(std::vector<Entry*> entries, Deadline deadline) ABSL_LOCKS_EXCLUDED(mutex_) {
    MutexLock lock(mutex_);
    const uint64_t id = ++last_id_;
    leases_.emplace(id, Granted{std::move(entries), deadline});
    return id;
  }

  // Nothing to do when it has ended already.
  void End(uint64_t id) ABSL_LOCKS_EXCLUDED(mutex_) {
    std::vector<Entry*> entries;
    {
      MutexLock lock(mutex_);
      const auto found = leases_.find(id);
      if (found == leases_.end()) return;
      entries = std::move(found->second.entries);
      leases_.erase(found);
    }
    for (Entry* entry : entries) directory_->DropLease(entry);
  }

  // Ends those whose deadline is before `now`.
  void Expire(Deadline now) ABSL_LOCKS_EXCLUDED(mutex_) {
    std::vector<uint64_t> ended;
    {
      MutexLock lock(mutex_);
      for (const auto& [id, granted] : leases_) {
        if (granted.deadline < now) ended.push_back(id);
      }
    }
    for (const uint64_t id : ended) End(id);
  }

 private:
  struct Granted {
    std::vector<Entry*> entries;
    Deadline deadline;
  };

  Directory* const directory_;
  Mutex mutex_;
  uint64_t last_id_ ABSL_GUARDED_BY(mutex_) = 0;
  std::map<uint64_t, Granted> leases_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace cairn
