#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "cairn/stats.h"
#include "tools/offload/block_plan.h"
#include "tools/offload/options.h"
#include "tools/offload/tally.h"

namespace cairn::offload {

// All that is known when a run ends.
struct Outcome {
  const Options& options;
  const BlockPlan& block;
  TraceFormat format = TraceFormat::kGenerated;
  Tally tally = {};
  StatsSnapshot stats = {};  // After the flush.
  uint64_t warm_start_blocks = 0;
  double flush_s = 0;
  double wall_s = 0;
  bool interrupted = false;
};

// The figures of a run, under the names that --json gives them. What they mean is in --help.
struct Report {
  explicit Report(const Outcome& outcome);

  uint64_t blocks_hit = 0;
  double hit_rate = 0;
  uint64_t restore_us_p50 = 0;
  uint64_t restore_us_p99 = 0;
  double restore_gbps = 0;
  double restore_l3_gbps = 0;
  double store_gbps = 0;
  double time_saved_s = 0;
};

std::string ReportJson(const Outcome& outcome);
// For a person.
std::string ReportTable(const Outcome& outcome);

// Replaces `path` in one step: a reader sees the old text or the new one. Errors name the path.
absl::Status WriteAtomically(const std::string& path, const std::string& text);
// Whether WriteAtomically could: said before the work instead of after it.
absl::Status CheckWritable(const std::string& path);

}  // namespace cairn::offload
