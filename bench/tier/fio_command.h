#pragma once

#include <map>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "bench/tier/job.h"
#include "bench/tier/nvme_target.h"

namespace cairn::bench {

// What fio is to do of one of our jobs, and where.
struct FioJob {
  const Job* job = nullptr;
  DataFiles files;
};

// fio's words for the jobs, to run together for `runtime_s`: io_uring with fixed buffers and
// files, of huge pages or not.
std::vector<std::string> FioCommand(absl::Span<const FioJob> jobs, double runtime_s,
                                    bool huge_pages);

// Bytes per second of each job, from what fio printed. kDataLoss: not its JSON.
using FioRatesByName = std::map<std::string, double>;
absl::StatusOr<FioRatesByName> FioRates(const std::string& output);

// Runs the command and gives what it printed. kUnavailable, with its last words, when it cannot be
// started or ends badly.
absl::StatusOr<std::string> RunCommand(const std::vector<std::string>& command);

}  // namespace cairn::bench
