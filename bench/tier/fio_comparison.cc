#include "bench/tier/fio_comparison.h"

#include <algorithm>
#include <map>
#include <memory>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "bench/tier/fio_command.h"
#include "bench/tier/huge_pages.h"
#include "bench/tier/nvme_target.h"
#include "bench/tier/own_store.h"
#include "bench/tier/store_target.h"
#include "src/base/status_macros.h"

namespace cairn::bench {
namespace {

constexpr double kRuntimeDefault_s = 2;
constexpr const char* kSmallPagesNote =
    "note: no huge pages could be reserved (that takes root and free memory): both sides run with "
    "small pages, which are slower than the device";

// The group's jobs as they are run in a pair.
std::vector<Job> PairJobs(absl::Span<const Job> jobs, double runtime_s) {
  std::vector<Job> pair_jobs(jobs.begin(), jobs.end());
  for (Job& job : pair_jobs) {
    job.time_based = true;
    job.runtime_s = runtime_s;
  }
  return pair_jobs;
}

double RuntimeOf(absl::Span<const Job> jobs) {
  double runtime_s = 0;
  for (const Job& job : jobs) runtime_s = std::max(runtime_s, job.runtime_s);
  return runtime_s > 0 ? runtime_s : kRuntimeDefault_s;
}

uint64_t HugePagesFor(absl::Span<const Job> jobs) {
  uint64_t pages = 0;
  for (const Job& job : jobs) {
    // fio adds a page to align.
    pages += job.clones * (SlotMemory::BytesOf(job) / HugePages::kPageBytes + 2);
  }
  return pages;
}

// Where fio does the job: reads where we read, writes on files that hold nobody's tensors.
absl::StatusOr<DataFiles> FilesFor(const Job& job) {
  if (job.tier == Tier::kStore && !job.writes()) {
    return AllDataFiles(StorePath(job.directory), job.slot_bytes());
  }
  return NvmeDataFiles(job);
}

// What must be there before fio can run: the stores on whose files it works.
absl::Status PrepareFiles(absl::Span<const Job> jobs, uint32_t group, const RunOptions& options) {
  std::map<std::string, std::vector<const Job*>> scratch;  // By directory.
  std::vector<Job> readers;
  for (const Job& job : jobs) {
    if (IsStore(job.directory)) continue;
    if (job.tier == Tier::kNvme || job.writes()) scratch[job.directory].push_back(&job);
    if (job.tier == Tier::kStore) readers.push_back(job);
  }
  for (const auto& [directory, sharers] : scratch) {
    CAIRN_RETURN_IF_ERROR(PrepareNvmeStore(sharers));
  }
  if (readers.empty()) return absl::OkStatus();
  // Opening a target of the store fills it.
  for (Job& job : readers) {
    job.time_based = false;
    job.runtime_s = 0.001;
    job.ramp_s = 0;
  }
  return RunGroup(readers, group, options).status();
}

// One report per job, in the order of the jobs.
std::vector<JobReport> ByJob(absl::Span<const Job> jobs, const std::vector<JobReport>& reports) {
  std::vector<JobReport> by_job;
  for (const Job& job : jobs) {
    bool first = true;
    for (const JobReport& report : reports) {
      if (report.job.name != job.name) continue;
      if (first) {
        by_job.push_back(report);
      } else {
        by_job.back().Merge(report);
      }
      first = false;
    }
  }
  return by_job;
}

absl::StatusOr<FiguresByName> RunFio(absl::Span<const FioJob> jobs, double runtime_s,
                                     const SharedHugePages* memory) {
  const std::string path = memory == nullptr ? "" : memory->path();
  CAIRN_ASSIGN_OR_RETURN(const std::string output, RunCommand(FioCommand(jobs, runtime_s, path)));
  return FioFigures(output);
}

}  // namespace

absl::Status CheckComparable(absl::Span<const Job> jobs) {
  std::map<std::string, int> names;
  for (const Job& job : jobs) {
    const std::string what = absl::StrCat("--compare-fio: job ", job.name, ": ");
    if (++names[job.name] > 1) {
      return absl::InvalidArgumentError(absl::StrCat(what, "two jobs have this name"));
    }
    if (job.tier == Tier::kPinned || job.tier == Tier::kGpu) {
      return absl::InvalidArgumentError(absl::StrCat(
          what, "tier=", TierName(job.tier), " is memory; its limit is bare copies, reported"));
    }
    if (job.engine == Engine::kNull) {
      return absl::InvalidArgumentError(absl::StrCat(what, "engine=null moves no bytes"));
    }
  }
  return RunCommand({"fio", "--version"}).status();
}

absl::StatusOr<std::vector<JobReport>> CompareWithFio(absl::Span<const Job> jobs, uint32_t group,
                                                      uint32_t pairs, const RunOptions& options) {
  const double runtime_s = RuntimeOf(jobs);
  std::vector<Job> pair_jobs = PairJobs(jobs, runtime_s);
  // One report per thread, and merged here by job: fio's rates are by job too.
  for (Job& job : pair_jobs) job.group_reporting = false;
  CAIRN_RETURN_IF_ERROR(PrepareFiles(pair_jobs, group, options));
  std::vector<FioJob> fio_jobs;
  for (const Job& job : pair_jobs) {
    CAIRN_ASSIGN_OR_RETURN(DataFiles files, FilesFor(job));
    fio_jobs.push_back({.job = &job, .files = std::move(files)});
  }
  const std::unique_ptr<SharedHugePages> memory = SharedHugePages::Create(HugePagesFor(jobs));
  if (memory == nullptr) options.say(kSmallPagesNote);
  RunOptions run_options = options;
  run_options.target.memory = {.small_pages = memory == nullptr, .shared = memory.get()};
  std::map<std::string, std::vector<FioPair>> seen;
  std::vector<JobReport> last;
  bool failed = false;
  for (uint32_t i = 0; i < pairs && !failed && !options.stop(); ++i) {
    absl::StatusOr<FiguresByName> fio = RunFio(fio_jobs, runtime_s, memory.get());
    if (!fio.ok()) {
      if (options.stop()) break;  // It got the signal too.
      return fio.status();
    }
    if (memory != nullptr) memory->GiveBackAll();
    CAIRN_ASSIGN_OR_RETURN(const std::vector<JobReport> reports,
                           RunGroup(pair_jobs, group, run_options));
    if (options.stop() && !last.empty()) break;  // This one was cut short.
    last = ByJob(pair_jobs, reports);
    for (const JobReport& report : last) {
      failed = failed || report.error != 0;
      const FioPair pair = {.fio = (*fio)[report.job.name],
                            .ours = report.Figures(),
                            .huge_pages = memory != nullptr};
      seen[report.job.name].push_back(pair);
      options.say(
          absl::StrFormat("%s: pair %d of %d: fio %.0f MiB/s, tier-bench %.0f MiB/s, ratio %.3f",
                          report.job.name, i + 1, pairs, pair.fio.bytes_per_s() / 0x1p20,
                          pair.ours.bytes_per_s() / 0x1p20, pair.ratio()));
    }
  }
  for (JobReport& report : last) report.pairs = seen[report.job.name];
  return last;
}

}  // namespace cairn::bench
