#pragma once

#include <optional>
#include <string>
#include <vector>

#include "bench/policy/options.h"
#include "bench/policy/simulation.h"
#include "bench/policy/workload.h"

namespace cairn::policy {

// One policy at one size.
struct Result {
  std::string policy;
  Size size;
  uint64_t blocks = 0;  // Of the cache.
  Outcome outcome;
  // Without the restarts. None: there are none.
  std::optional<uint64_t> unbroken_hits = std::nullopt;
  // With costs that the policy was not told. None: there are none.
  std::optional<Outcome> untold = std::nullopt;
};

// All that is known at the end. LRU's and Belady's results are beside the others', size by size.
struct Report {
  std::string source;  // "the trace FILE", or how the workload was generated.
  bool real = false;   // The trace is a file's.
  const Workload& workload;
  std::optional<Tiers> tiers;  // None: one tier. Without L3's size.
  std::vector<Result> results;
  std::vector<Result> lru;
  std::vector<Result> belady;
};

// For a person.
std::string ReportTable(const Report& report);
std::string ReportJson(const Report& report);

}  // namespace cairn::policy
