#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "bench/tier/job.h"
#include "bench/tier/latency.h"
#include "bench/tier/run_figures.h"
#include "bench/tier/session.h"

namespace cairn::bench {

// What the whole process has used, or between two looks.
struct CpuUsage {
  double user_s = 0;
  double system_s = 0;
  uint64_t context_switches = 0;
  uint64_t major_faults = 0;
  uint64_t minor_faults = 0;

  static CpuUsage Now();
  CpuUsage Since(const CpuUsage& before) const;
};

// Reads or writes of one job while it was measured.
struct Direction {
  uint64_t ios = 0;
  uint64_t bytes = 0;
  Latency slat;  // From the request's creation to its submission.
  Latency clat;  // From there until the job's thread knows that it has ended.
  Latency lat;
  std::vector<double> bytes_per_s_samples;  // One per 500 ms.
  std::vector<double> ios_per_s_samples;

  void Add(const Direction& other);
};

// One pair of runs of --compare-fio.
struct FioPair {
  RunFigures fio;
  RunFigures ours;
  bool huge_pages = false;  // Both sides had them, or neither.
  double ratio() const {
    return fio.bytes_per_s() > 0 ? ours.bytes_per_s() / fio.bytes_per_s() : 0;
  }
};

// What is known of a job, or of several that report as one, when it has ended.
struct JobReport {
  Job job;  // The first of them.
  uint32_t group = 0;
  uint32_t threads = 1;
  double runtime_s = 0;
  Direction read;
  Direction write;
  Latency sync;
  CpuUsage cpu;                       // Of the whole process,
  uint64_t cpu_bytes = 0;             // and what all jobs that ran meanwhile moved with it.
  TargetCounters counters;            // Of the target,
  uint64_t target_bytes_written = 0;  // and what all jobs wrote to it.
  TargetFacts facts;
  double memcpy_bytes_per_s = 0;  // By as many threads, where memory is the limit; else 0.
  // Submissions that found up to 1, 2, 4, 8, 16, 32 requests outstanding, or more.
  std::array<uint64_t, 7> depth_levels = {};
  uint64_t bytes_verified = 0;
  uint64_t verify_failures = 0;
  int error = 0;  // An errno, as fio has it: EIO, EILSEQ for a verify failure.
  std::string error_text;
  std::vector<FioPair> pairs;

  void Merge(const JobReport& other);

  RunFigures Figures() const;
  // The medians of the pairs.
  RunFigures FioMedians() const;
  RunFigures OurMedians() const;
  // Why the figures are not those of the job's tier alone; empty when they are.
  std::string Caveat() const;
  double bytes_per_s() const;  // Both directions.
  double cpu_seconds_per_gb() const;
  double percent_of_core_per_gibps() const;
  double device_bytes_per_user_byte() const;
  double percent_of_memcpy() const;
  double percent_of_fio() const;  // Of the median of the ratios; 0 without pairs.
};

}  // namespace cairn::bench
