#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "bench/tier/job.h"

namespace cairn::bench {

enum class OutputFormat : uint8_t { kNormal, kJson, kJsonPlus };

// All that one start of the program is asked to do.
struct Invocation {
  std::vector<Job> jobs;  // Valid.
  OutputFormat format = OutputFormat::kNormal;
  std::string output;            // A file; empty: standard output.
  double status_interval_s = 0;  // 0: no interim lines.
  uint32_t compare_pairs = 0;    // With fio; 0: none.
  bool parse_only = false;
  bool help = false;  // Then nothing else is set.
};

using FileReader = std::function<absl::StatusOr<std::string>(const std::string& path)>;

// As fio reads its command line: options before the first --name are for all jobs, each --name
// begins a job, other words are job files. kInvalidArgument names
// the option, and the line of the job file.
absl::StatusOr<Invocation> ParseCommandLine(absl::Span<const std::string> words,
                                            const FileReader& read_file);

std::string HelpText();

}  // namespace cairn::bench
