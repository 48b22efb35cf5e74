#pragma once

#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "bench/tier/job.h"
#include "bench/tier/session.h"

namespace cairn::bench {

// tier=nvme: the engine, on the data files of a store. Requests over 1 MiB go to it in parts of
// 1 MiB, all at once, as the store's do.
absl::StatusOr<std::unique_ptr<Target>> OpenNvmeTarget(absl::Span<const Job* const> jobs,
                                                       const TargetOptions& options);

// The data files that hold the job's blocks, and from where in each of them. For fio.
struct DataFiles {
  std::vector<std::string> paths;
  uint64_t first_offset = 0;
};
// Of tier-bench's own tier=nvme store, or of the store that the job's directory is.
absl::StatusOr<DataFiles> NvmeDataFiles(const Job& job);
// Of the store at `path`, whose blocks may be anywhere: all of them.
absl::StatusOr<DataFiles> AllDataFiles(const std::string& path, uint64_t first_offset);

// PATH of the store that tier=nvme has made, or makes, under the directory.
std::string NvmeStorePath(const std::string& directory);
// Makes that store large enough for the jobs, whatever their tier.
absl::Status PrepareNvmeStore(absl::Span<const Job* const> jobs);

}  // namespace cairn::bench
