#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "cairn/options.h"

namespace cairn::policy {

// A cache's size as it was given, "5%" of the workload's distinct blocks or "1000" blocks.
struct Size {
  std::string text;
  double value = 0;
  bool percent = false;

  // At least 1.
  uint64_t Blocks(uint64_t distinct_blocks) const;
};

// What may be written to L3, as it was given: bytes in a day of the trace's clock, "40%" of the
// distinct blocks over the whole trace, or "none": everything.
struct GivenBudget {
  std::string text;
  bool none = false;
  uint64_t bytes_per_day = 0;
  double percent = 0;  // Over 0: instead.
};

struct NamedPolicy {
  std::string name;
  EvictionKind kind = EvictionKind::kTuned;
};

// What the command line says, checked.
struct Options {
  std::string trace;      // Empty: a generated workload.
  uint64_t requests = 0;  // At most; 0: all of the trace.
  uint64_t seed = 1;
  std::vector<Size> sizes;
  std::vector<NamedPolicy> policies;
  std::optional<Size> l2_size;   // None: one tier.
  GivenBudget write_budget;      // Of two.
  uint64_t block_bytes = 0;      // 0: of qwen3-vl-8b.
  bool prefetch = false;         // Measures the store's prediction instead.
  std::vector<double> restarts;  // Shares of the requests served before each, rising.
  double cost_spread = 0;        // Of the dearest model to the cheapest; 0: no costs.
  uint64_t phase_bytes = 0;      // Of a phase shift instead of all that; 0: none.
  std::string json;              // Empty: none.
};

// As offload::ParseOptions: the options, or the exit code.
struct ParseResult {
  std::optional<Options> options;
  int exit_code = 0;
};
ParseResult ParseOptions(int argc, const char* const* argv);

}  // namespace cairn::policy
