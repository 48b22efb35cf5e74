#include "bench/tier/runner.h"

#include <chrono>
#include <map>
#include <memory>
#include <string>
#include <thread>
#include <tuple>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "bench/tier/job_thread.h"
#include "src/base/mutex.h"
#include "src/base/start_thread.h"
#include "src/base/status_macros.h"
#include "src/base/strings.h"

namespace cairn::bench {
namespace {

using Clock = std::chrono::steady_clock;

// Counts the threads that have ended.
class Finish {
 public:
  explicit Finish(size_t threads) : left_(threads) {}

  void One() {
    MutexLock lock(mutex_);
    if (--left_ == 0) changed_.NotifyAll();
  }
  // False when the deadline came first.
  bool WaitUntil(Clock::time_point deadline) {
    MutexLock lock(mutex_);
    while (left_ > 0) {
      if (!changed_.WaitUntil(mutex_, deadline)) return left_ == 0;
    }
    return true;
  }

 private:
  Mutex mutex_;
  CondVar changed_;
  size_t left_ ABSL_GUARDED_BY(mutex_);
};

// Jobs with the same share a target.
using TargetKey = std::tuple<Tier, Engine, bool, bool, std::string>;
TargetKey TargetKeyOf(const Job& job) {
  return {job.tier, job.engine, job.polls_submissions, job.polls_completions, job.directory};
}

// One run of one group: first what is shared, then the threads, so that they go in reverse.
struct Group {
  std::map<TargetKey, std::unique_ptr<Target>> targets;
  std::vector<std::unique_ptr<JobThread>> threads;
};

absl::Status OpenTargets(absl::Span<const Job> jobs, const RunOptions& options, Group& group) {
  std::map<TargetKey, std::vector<const Job*>> sharing;
  for (const Job& job : jobs) sharing[TargetKeyOf(job)].push_back(&job);
  for (const auto& [key, sharers] : sharing) {
    CAIRN_ASSIGN_OR_RETURN(group.targets[key], OpenTarget(sharers, options.target));
  }
  return absl::OkStatus();
}

absl::Status MakeThreads(absl::Span<const Job> jobs, uint32_t number, const RunOptions& options,
                         Group& group) {
  for (const Job& job : jobs) {
    Target& target = *group.targets.at(TargetKeyOf(job));
    for (uint32_t clone = 0; clone < job.clones; ++clone) {
      CAIRN_ASSIGN_OR_RETURN(std::unique_ptr<Session> session, target.NewSession(job));
      if (clone == 0 && session->synchronous() && job.depth > 1) {
        options.say(
            absl::StrCat("note: job ", job.name, ": this tier answers at once, so iodepth is 1"));
      }
      group.threads.push_back(std::make_unique<JobThread>(job, clone, number, target,
                                                          std::move(session), options.stop));
    }
  }
  return absl::OkStatus();
}

void SayStatus(const Group& group, double elapsed_s, double interval_s, std::vector<uint64_t>& seen,
               const RunOptions& options) {
  uint64_t read_ios = 0;
  uint64_t read_bytes = 0;
  uint64_t write_ios = 0;
  uint64_t write_bytes = 0;
  for (const auto& thread : group.threads) {
    read_ios += thread->moved().read_ios.load(std::memory_order_relaxed);
    read_bytes += thread->moved().read_bytes.load(std::memory_order_relaxed);
    write_ios += thread->moved().write_ios.load(std::memory_order_relaxed);
    write_bytes += thread->moved().write_bytes.load(std::memory_order_relaxed);
  }
  const std::vector<uint64_t> now = {read_ios, read_bytes, write_ios, write_bytes};
  const auto rate = [&](size_t i) { return static_cast<double>(now[i] - seen[i]) / interval_s; };
  options.say(
      absl::StrFormat("%.1f s: read: IOPS=%.0f, BW=%.0fMiB/s, write: IOPS=%.0f, BW=%.0fMiB/s",
                      elapsed_s, rate(0), rate(1) / 0x1p20, rate(2), rate(3) / 0x1p20));
  seen = now;
}

absl::Status RunThreads(Group& group, const RunOptions& options) {
  Finish finish(group.threads.size());
  std::vector<std::jthread> threads(group.threads.size());
  absl::Status status;
  for (size_t i = 0; i < threads.size(); ++i) {
    JobThread* const job_thread = group.threads[i].get();
    if (status.ok()) {
      status = StartThread(threads[i], "tier-bench job", [job_thread, &finish] {
        job_thread->Run();
        finish.One();
      });
    }
    if (!status.ok()) finish.One();
  }
  const Clock::time_point begin = Clock::now();
  const auto interval = std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(
      options.status_interval_s > 0 ? options.status_interval_s : 3600));
  std::vector<uint64_t> seen(4);
  for (Clock::time_point next = begin + interval; !finish.WaitUntil(next); next += interval) {
    if (options.status_interval_s <= 0) continue;
    SayStatus(group, std::chrono::duration<double>(Clock::now() - begin).count(),
              options.status_interval_s, seen, options);
  }
  for (std::jthread& thread : threads) {
    if (thread.joinable()) thread.join();
  }
  return status;
}

// As fio: with group_reporting a group is one report, else each thread has its own.
std::vector<JobReport> Reports(const Group& group) {
  std::vector<JobReport> reports;
  size_t merged = SIZE_MAX;  // None yet.
  for (const auto& thread : group.threads) {
    const JobReport& report = thread->report();
    if (report.job.group_reporting && merged != SIZE_MAX) {
      reports[merged].Merge(report);
      continue;
    }
    if (report.job.group_reporting) merged = reports.size();
    reports.push_back(report);
  }
  return reports;
}

// What was measured of all jobs together is divided by what they moved together.
void AddTotals(std::vector<JobReport>& reports) {
  uint64_t bytes = 0;
  std::map<TargetKey, uint64_t> written;
  for (const JobReport& report : reports) {
    bytes += report.read.bytes + report.write.bytes;
    written[TargetKeyOf(report.job)] += report.write.bytes;
  }
  for (JobReport& report : reports) {
    report.cpu_bytes = bytes;
    report.target_bytes_written = written[TargetKeyOf(report.job)];
  }
}

void SayWhatIsSlower(const std::vector<JobReport>& reports, const RunOptions& options) {
  for (const JobReport& report : reports) {
    const std::string job = absl::StrCat("note: job ", report.job.name, ": ");
    const TargetFacts& facts = report.facts;
    const std::string caveat = report.Caveat();
    if (!caveat.empty()) options.say(absl::StrCat(job, caveat));
    if (facts.pages == ArenaPagesName(ArenaPages::kSmall)) {
      options.say(absl::StrCat(job, "memory has small pages"));
    }
    if (!facts.polling_refusal.empty()) options.say(absl::StrCat(job, facts.polling_refusal));
    if (!facts.registered) options.say(absl::StrCat(job, "the kernel did not register the memory"));
  }
}

}  // namespace

std::vector<std::vector<Job>> GroupJobs(absl::Span<const Job> jobs) {
  std::vector<std::vector<Job>> groups;
  for (const Job& job : jobs) {
    if (groups.empty() || job.stonewall) groups.emplace_back();
    groups.back().push_back(job);
  }
  return groups;
}

absl::StatusOr<std::vector<JobReport>> RunGroup(absl::Span<const Job> jobs, uint32_t group_number,
                                                const RunOptions& options) {
  Group group;
  CAIRN_RETURN_IF_ERROR(OpenTargets(jobs, options, group));
  CAIRN_RETURN_IF_ERROR(MakeThreads(jobs, group_number, options, group));
  CAIRN_RETURN_IF_ERROR(RunThreads(group, options));
  std::vector<JobReport> reports = Reports(group);
  AddTotals(reports);
  SayWhatIsSlower(reports, options);
  return reports;
}

}  // namespace cairn::bench
