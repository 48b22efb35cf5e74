#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "cairn/options.h"
#include "cairn/stats.h"
#include "src/admission/policy.h"
#include "src/base/mutex.h"
#include "src/journal.h"

namespace cairn {

// A store's admission to L3: the policy behind its lock, which ranks with the eviction policies',
// the store's clock, and what it has in hand over restarts. Without a budget all is admitted and
// nothing counted. Thread-safe.
class Admission {
 public:
  // Where what is in hand is kept: a line of text, replaced in one step. So a store that is opened
  // again and again begins with what it ended with, or what it had a second before it was killed.
  static constexpr const char* kFileName = "write_budget";

  struct Options {
    uint64_t bytes_per_day = 0;  // As StoreOptions::l3_write_bytes_per_day.
    uint64_t drive_bytes = 0;    // Of all drives together; 0: not known.
    uint64_t l3_bytes_max = 0;
    std::string directory;  // Of the file.
    bool new_store = false;
    std::function<int64_t()> now_unix_ms;
    Journal* journal = nullptr;
  };
  explicit Admission(const Options& options);

  bool limited() const { return policy_ != nullptr; }

  // As AdmissionPolicy's.
  void Request(absl::Span<const uint64_t> key_hashes) ABSL_LOCKS_EXCLUDED(mutex_);
  AdmissionReason Decide(const AdmissionPolicy::Tensor& tensor) ABSL_LOCKS_EXCLUDED(mutex_);
  // The same of what was refused, each time that it is used. The journal hears when it is not.
  AdmissionReason Reconsider(const AdmissionPolicy::Tensor& tensor) ABSL_LOCKS_EXCLUDED(mutex_);
  void Return(const AdmissionPolicy::Tensor& tensor, AdmissionReason reason)
      ABSL_LOCKS_EXCLUDED(mutex_);
  bool Spare(uint64_t bytes) ABSL_LOCKS_EXCLUDED(mutex_);
  // Whether Spare would be true.
  bool CanSpare(uint64_t bytes) const ABSL_LOCKS_EXCLUDED(mutex_);
  void Left(uint64_t key_hash) ABSL_LOCKS_EXCLUDED(mutex_);

  WriteBudgetStats Stats() const ABSL_LOCKS_EXCLUDED(mutex_);
  // Writes the file when what is in hand has changed.
  absl::Status Save() ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  WriteBudget::Options BudgetOptions(const Options& options) const;
  AdmissionReason Judge(const AdmissionPolicy::Tensor& tensor) ABSL_LOCKS_EXCLUDED(mutex_);
  void Note(const AdmissionPolicy::Tensor& tensor, AdmissionReason reason) const;

  // Constant.
  const uint64_t bytes_per_day_;
  const uint64_t drive_bytes_;
  const std::string path_;
  const std::function<int64_t()> now_unix_ms_;
  const int64_t opened_unix_ms_;
  Journal* const journal_;

  mutable Mutex mutex_;
  const std::unique_ptr<AdmissionPolicy> policy_ ABSL_PT_GUARDED_BY(mutex_);  // Null: no budget.
  uint64_t saved_written_bytes_ ABSL_GUARDED_BY(mutex_) = UINT64_MAX;
};

}  // namespace cairn
