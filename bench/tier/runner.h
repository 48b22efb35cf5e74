#pragma once

#include <cstdint>
#include <functional>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "bench/tier/job.h"
#include "bench/tier/measurement.h"
#include "bench/tier/session.h"

namespace cairn::bench {

struct RunOptions {
  double status_interval_s = 0;  // 0: no interim lines.
  std::function<bool()> stop;    // Ends the run early; called often, by any thread.
  std::function<void(std::string_view line)> say;  // Interim lines and notes.
  TargetOptions target;
};

// Jobs that run together: those between one stonewall and the next.
std::vector<std::vector<Job>> GroupJobs(absl::Span<const Job> jobs);

// Runs one group and reports by job and clone, or as one where group_reporting says so. A status
// other than OK: nothing was run. I/O errors and verify failures are in the reports.
absl::StatusOr<std::vector<JobReport>> RunGroup(absl::Span<const Job> jobs, uint32_t group,
                                                const RunOptions& options);

}  // namespace cairn::bench
