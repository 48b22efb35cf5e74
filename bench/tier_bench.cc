// tier-bench: measures the tiers of a Cairn store in fio's words, and beside fio. Its --help says
// what they mean.

#include <sys/stat.h>

#include <cstdio>
#include <fstream>
#include <sstream>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "bench/tier/command_line.h"
#include "bench/tier/fio_comparison.h"
#include "bench/tier/report.h"
#include "bench/tier/runner.h"
#include "src/base/status_macros.h"
#include "src/base/strings.h"
#include "tools/offload/interrupt.h"
#include "tools/offload/report.h"

namespace cairn::bench {
namespace {

constexpr int kExitFailure = 1;
constexpr int kExitMistake = 2;

void Say(std::string_view line) {
  std::fputs(absl::StrCat("tier-bench: ", ToAbsl(line), "\n").c_str(), stderr);
}

absl::StatusOr<std::string> ReadJobFile(const std::string& path) {
  struct stat file = {};
  std::ifstream stream(path, std::ios::binary);
  if (!stream || stat(path.c_str(), &file) != 0 || S_ISDIR(file.st_mode)) {
    return absl::InvalidArgumentError(absl::StrCat("cannot read the job file ", path));
  }
  std::ostringstream text;
  text << stream.rdbuf();
  return text.str();
}

// Prints, or writes where --output says.
absl::Status Output(const Invocation& invocation, const std::string& text) {
  if (!invocation.output.empty()) return offload::WriteAtomically(invocation.output, text);
  std::fputs(text.c_str(), stdout);
  std::fflush(stdout);
  return absl::OkStatus();
}

absl::StatusOr<std::vector<JobReport>> RunAll(const Invocation& invocation) {
  RunOptions options;
  options.status_interval_s = invocation.status_interval_s;
  options.stop = offload::Interrupted;
  options.say = Say;
  std::vector<JobReport> all;
  uint32_t number = 0;
  for (const std::vector<Job>& group : GroupJobs(invocation.jobs)) {
    if (offload::Interrupted()) break;
    absl::StatusOr<std::vector<JobReport>> reports =
        invocation.compare_pairs > 0
            ? CompareWithFio(group, number, invocation.compare_pairs, options)
            : RunGroup(group, number, options);
    if (absl::IsCancelled(reports.status())) break;
    if (!reports.ok()) return reports.status();
    for (JobReport& report : *reports) all.push_back(std::move(report));
    ++number;
  }
  return all;
}

absl::StatusOr<int> Main(const Invocation& invocation) {
  if (invocation.parse_only) {
    std::fputs(absl::StrFormat("%d jobs\n", invocation.jobs.size()).c_str(), stdout);
    return 0;
  }
  if (!invocation.output.empty()) {
    CAIRN_RETURN_IF_ERROR(offload::CheckWritable(invocation.output));
  }
  if (invocation.compare_pairs > 0) CAIRN_RETURN_IF_ERROR(CheckComparable(invocation.jobs));
  offload::CatchInterrupts();
  CAIRN_ASSIGN_OR_RETURN(const std::vector<JobReport> reports, RunAll(invocation));
  CAIRN_RETURN_IF_ERROR(
      Output(invocation, invocation.format == OutputFormat::kNormal
                             ? ReportText(reports)
                             : ReportJson(reports, invocation.format == OutputFormat::kJsonPlus)));
  int exit_code = 0;
  for (const JobReport& report : reports) {
    if (report.error == 0) continue;
    Say(absl::StrCat(report.job.name, ": ", report.error_text));
    exit_code = kExitFailure;
  }
  return exit_code;
}

// What the caller can mend is a mistake; what the machine refuses is a failure.
int ExitCodeOf(const absl::Status& status) {
  switch (status.code()) {
    case absl::StatusCode::kInvalidArgument:
    case absl::StatusCode::kUnimplemented:
    case absl::StatusCode::kFailedPrecondition:
      return kExitMistake;
    default:
      return kExitFailure;
  }
}

}  // namespace
}  // namespace cairn::bench

int main(int argc, char** argv) {
  const std::vector<std::string> words(argv + 1, argv + argc);
  const absl::StatusOr<cairn::bench::Invocation> invocation =
      cairn::bench::ParseCommandLine(words, cairn::bench::ReadJobFile);
  if (invocation.ok() && invocation->help) {
    std::fputs(cairn::bench::HelpText().c_str(), stdout);
    return 0;
  }
  const absl::StatusOr<int> exit_code =
      invocation.ok() ? cairn::bench::Main(*invocation) : invocation.status();
  if (exit_code.ok()) return *exit_code;
  cairn::bench::Say(cairn::ToStd(exit_code.status().message()));
  return cairn::bench::ExitCodeOf(exit_code.status());
}
