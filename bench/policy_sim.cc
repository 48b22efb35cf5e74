// policy-sim: what the store's eviction policies hit on a trace, without a store. Its --help says
// what the figures mean.

#include <cstdio>
#include <string>

#include "absl/strings/str_cat.h"
#include "bench/policy/options.h"
#include "bench/policy/report.h"
#include "bench/policy/simulation.h"
#include "bench/policy/workload.h"
#include "src/base/status_macros.h"
#include "tools/offload/report.h"
#include "tools/offload/trace.h"
#include "tools/offload/workload.h"

namespace cairn::policy {
namespace {

absl::StatusOr<offload::Trace> LoadTrace(const Options& options) {
  if (!options.trace.empty()) return offload::ReadTrace(options.trace, options.requests);
  return offload::GenerateWorkload(
      {.seed = options.seed,
       .requests = options.requests,
       .block_tokens = offload::DefaultBlockTokens(offload::TraceFormat::kGenerated)});
}

std::string SourceOf(const Options& options) {
  if (!options.trace.empty()) return absl::StrCat("the trace ", options.trace);
  return absl::StrCat("generated with seed ", options.seed);
}

absl::Status Main(const Options& options) {
  if (!options.json.empty()) CAIRN_RETURN_IF_ERROR(offload::CheckWritable(options.json));
  CAIRN_ASSIGN_OR_RETURN(const offload::Trace trace, LoadTrace(options));
  const Workload workload(trace);
  Report report = {
      .source = SourceOf(options), .real = !options.trace.empty(), .workload = workload};
  for (const Size& size : options.sizes) {
    const uint64_t blocks = size.Blocks(workload.blocks);
    report.lru.push_back({"lru", size, blocks, Simulate(workload, EvictionKind::kLru, blocks)});
    report.belady.push_back({"belady", size, blocks, SimulateBelady(workload, blocks)});
    for (const NamedPolicy& policy : options.policies) {
      report.results.push_back(
          {policy.name, size, blocks, Simulate(workload, policy.kind, blocks)});
    }
  }
  std::fputs(ReportTable(report).c_str(), stdout);
  if (options.json.empty()) return absl::OkStatus();
  return offload::WriteAtomically(options.json, ReportJson(report));
}

}  // namespace
}  // namespace cairn::policy

int main(int argc, char** argv) {
  const cairn::policy::ParseResult parsed = cairn::policy::ParseOptions(argc, argv);
  if (!parsed.options.has_value()) return parsed.exit_code;
  const absl::Status status = cairn::policy::Main(*parsed.options);
  if (status.ok()) return 0;
  std::fputs(absl::StrCat("policy-sim: ", status.message(), "\n").c_str(), stderr);
  return 2;
}
