#pragma once

#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "bench/tier/job.h"
#include "bench/tier/measurement.h"
#include "bench/tier/runner.h"

namespace cairn::bench {

// Whether fio is there and the jobs are such that it can do the same.
absl::Status CheckComparable(absl::Span<const Job> jobs);

// Runs the group's jobs by fio and by us, turn about, `pairs` times, each for the jobs' runtime
// (2 s where there is none). The reports are of our last run, with all pairs in them, one for each
// job. Reads are of the very files our jobs read; what fio writes goes to the data files of
// tier-bench's own tier=nvme store.
absl::StatusOr<std::vector<JobReport>> CompareWithFio(absl::Span<const Job> jobs, uint32_t group,
                                                      uint32_t pairs, const RunOptions& options);

}  // namespace cairn::bench
