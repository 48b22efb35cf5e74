// tier-bench's job files (bench/tier/job_file.h).

#include <algorithm>

#include "bench/tier/job_file.h"
#include "src/base/check.h"
#include "tests/fuzz/target.h"

namespace cairn::fuzz {
namespace {

using bench::Job;

// What a job that validates promises to those who run it.
void CheckBlocks(const Job& job) {
  CAIRN_CHECK(job.depth > 0 && job.clones > 0);
  CAIRN_CHECK(job.slot_bytes() > 0 && job.bytes_wanted() > 0);
  for (uint64_t unit = 0; unit < 8; ++unit) {
    const uint64_t bytes = job.BytesOf(unit);
    CAIRN_CHECK(bytes > 0 && bytes <= job.slot_bytes());
  }
}

}  // namespace

bool Examine(std::string_view input) {
  const absl::StatusOr<std::vector<Job>> jobs = bench::ParseJobFile(input, "input", Job());
  if (!jobs.ok()) {
    CAIRN_CHECK(absl::IsInvalidArgument(jobs.status()) || absl::IsUnimplemented(jobs.status()));
    CAIRN_CHECK(jobs.status().message().find("input:") == 0);
    return false;
  }
  const absl::StatusOr<std::vector<Job>> again = bench::ParseJobFile(input, "again", Job());
  CAIRN_CHECK(again.ok() && again->size() == jobs->size());
  CAIRN_CHECK(jobs->size() <= input.size());
  for (size_t i = 0; i < jobs->size(); ++i) {
    const Job& job = (*jobs)[i];
    CAIRN_CHECK(job.name == (*again)[i].name && job.given == (*again)[i].given);
    if (bench::Validate(job).ok()) CheckBlocks(job);
  }
  return true;
}

std::vector<std::string> Seeds() { return {}; }

}  // namespace cairn::fuzz
