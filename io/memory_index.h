#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "io/raw_index.h"
#include "src/base/mutex.h"

namespace cairn {

// The index without a disk, for tests. Thread-safe.
class MemoryIndex final : public RawIndex {
 public:
  absl::StatusOr<std::string> ReadRaw(std::string_view key) const override
      ABSL_LOCKS_EXCLUDED(mutex_);
  absl::Status WriteRaw(const std::vector<RawEdit>& edits, bool sync) override
      ABSL_LOCKS_EXCLUDED(mutex_);
  absl::Status ScanRaw(std::string_view prefix, RawVisitor visitor,
                       absl::FunctionRef<bool(std::string_view, const absl::Status&)> damaged)
      const override ABSL_LOCKS_EXCLUDED(mutex_);
  absl::StatusOr<std::string> LastRaw(std::string_view prefix) const override
      ABSL_LOCKS_EXCLUDED(mutex_);
  absl::Status Sync() override { return absl::OkStatus(); }
  absl::Status Reopen() override { return absl::OkStatus(); }

 private:
  mutable Mutex mutex_;
  std::map<std::string, std::string, std::less<>> entries_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace cairn
