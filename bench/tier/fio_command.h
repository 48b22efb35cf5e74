#pragma once

#include <map>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "bench/tier/job.h"
#include "bench/tier/nvme_target.h"
#include "bench/tier/run_figures.h"

namespace cairn::bench {

// What fio is to do of one of our jobs, and where.
struct FioJob {
  const Job* job = nullptr;
  DataFiles files;
};

// fio's words for the jobs, to run together for `runtime_s`: io_uring with fixed buffers and
// files. Buffers are the start of the file of huge pages at `memory_path`, or of small pages when
// that is empty.
std::vector<std::string> FioCommand(absl::Span<const FioJob> jobs, double runtime_s,
                                    const std::string& memory_path);

// Of each job, from what fio printed. The threads of a job count together, with the percentiles of
// the slowest. kDataLoss: not its JSON.
using FiguresByName = std::map<std::string, RunFigures>;
absl::StatusOr<FiguresByName> FioFigures(const std::string& output);

// Runs the command and gives what it printed. kUnavailable, with what it said, when it cannot be
// started or ends badly.
absl::StatusOr<std::string> RunCommand(const std::vector<std::string>& command);

}  // namespace cairn::bench
