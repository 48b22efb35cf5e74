// policy-sim: what the store's eviction policies hit on a trace, without a store. Its --help says
// what the figures mean.

#include <algorithm>
#include <cstdio>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "bench/policy/options.h"
#include "bench/policy/phase_shift.h"
#include "bench/policy/prefetch.h"
#include "bench/policy/report.h"
#include "bench/policy/simulation.h"
#include "bench/policy/workload.h"
#include "src/base/status_macros.h"
#include "src/prediction/read_stream.h"
#include "tools/offload/model.h"
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

// What a day may write. None: no limit, or one tier.
absl::StatusOr<std::optional<uint64_t>> BytesPerDay(const Options& options,
                                                    const Workload& workload,
                                                    uint64_t block_bytes) {
  const GivenBudget& given = options.write_budget;
  if (!options.l2_size.has_value() || given.none) return std::nullopt;
  if (workload.span_ms() == 0) {
    return absl::InvalidArgumentError(
        "--write-budget: all requests of the trace are of one moment, in which it grants nothing");
  }
  if (given.percent == 0) return given.bytes_per_day;
  const double bytes =
      given.percent / 100 * static_cast<double>(workload.blocks) * static_cast<double>(block_bytes);
  const double days = workload.span_days();
  return static_cast<uint64_t>(std::min(bytes / days, 1e18));
}

absl::StatusOr<std::optional<Tiers>> TiersOf(const Options& options, const offload::Trace& trace,
                                             const Workload& workload) {
  if (!options.l2_size.has_value()) return std::nullopt;
  Tiers tiers = {.l2_blocks_max = options.l2_size->Blocks(workload.blocks),
                 .block_bytes = options.block_bytes};
  if (tiers.block_bytes == 0) {
    CAIRN_ASSIGN_OR_RETURN(const offload::Model model, offload::FindModel("qwen3-vl-8b"));
    tiers.block_bytes = model.kv_bytes_per_token() * offload::DefaultBlockTokens(trace.format);
  }
  CAIRN_ASSIGN_OR_RETURN(tiers.write_bytes_per_day,
                         BytesPerDay(options, workload, tiers.block_bytes));
  return tiers;
}

std::vector<size_t> RestartsOf(const Options& options, const Workload& workload) {
  std::vector<size_t> restarts;
  for (const double share : options.restarts) {
    restarts.push_back(static_cast<size_t>(share * static_cast<double>(workload.requests.size())));
  }
  return restarts;
}

void SimulateAt(const Size& size, const Options& options, const Workload& workload,
                Report& report) {
  const uint64_t blocks = size.Blocks(workload.blocks);
  if (!report.tiers.has_value()) {
    const std::vector<size_t> restarts = RestartsOf(options, workload);
    const OneTier lru = {.blocks_max = blocks, .tell_costs = false};
    report.lru.push_back({"lru", size, blocks, Simulate(workload, EvictionKind::kLru, lru)});
    report.belady.push_back({"belady", size, blocks, SimulateBelady(workload, blocks)});
    for (const NamedPolicy& policy : options.policies) {
      const OneTier tier = {.blocks_max = blocks, .restarts = restarts};
      Result result = {policy.name, size, blocks, Simulate(workload, policy.kind, tier)};
      if (!restarts.empty()) {
        result.unbroken_hits = Simulate(workload, policy.kind, {.blocks_max = blocks}).hits;
      }
      if (!workload.costs.empty()) {
        result.untold = Simulate(workload, policy.kind,
                                 {.blocks_max = blocks, .restarts = restarts, .tell_costs = false});
      }
      report.results.push_back(std::move(result));
    }
    return;
  }
  Tiers tiers = *report.tiers;
  tiers.l3_blocks_max = blocks;
  Tiers write_all = tiers;
  write_all.write_bytes_per_day.reset();
  report.lru.push_back(
      {"lru", size, blocks, SimulateTiers(workload, EvictionKind::kLru, write_all)});
  // What L3 was refused may lie in L2 beside all that L3 has.
  report.belady.push_back(
      {"belady", size, blocks, SimulateBelady(workload, blocks + tiers.l2_blocks_max)});
  for (const NamedPolicy& policy : options.policies) {
    report.results.push_back(
        {policy.name, size, blocks, SimulateTiers(workload, policy.kind, tiers)});
  }
}

absl::Status MeasurePrefetch(const Options& options, const Workload& workload) {
  const uint64_t l2_blocks =
      options.l2_size.has_value() ? options.l2_size->Blocks(workload.blocks) : 0;
  std::vector<PrefetchOutcome> outcomes;
  for (const size_t ahead : {size_t{1}, ReadStream::kAhead, size_t{32}}) {
    outcomes.push_back(SimulatePrefetch(workload, l2_blocks, ahead));
  }
  std::fputs(PrefetchTable(workload, l2_blocks, outcomes).c_str(), stdout);
  if (options.json.empty()) return absl::OkStatus();
  return offload::WriteAtomically(options.json,
                                  PrefetchJson(SourceOf(options), workload, l2_blocks, outcomes));
}

absl::Status MainOfPhaseShift(const Options& options) {
  const PhaseShift shift = GeneratePhaseShift(options.seed, options.phase_bytes);
  const std::vector<PhaseResult> results = RunPhaseShift(shift, options.sizes);
  std::fputs(PhaseShiftTable(shift, results).c_str(), stdout);
  if (options.json.empty()) return absl::OkStatus();
  return offload::WriteAtomically(options.json, PhaseShiftJson(shift, results));
}

absl::Status Main(const Options& options) {
  if (!options.json.empty()) CAIRN_RETURN_IF_ERROR(offload::CheckWritable(options.json));
  if (options.phase_bytes > 0) return MainOfPhaseShift(options);
  CAIRN_ASSIGN_OR_RETURN(const offload::Trace trace, LoadTrace(options));
  const Workload workload(trace, options.cost_spread);
  if (options.prefetch) return MeasurePrefetch(options, workload);
  Report report = {
      .source = SourceOf(options), .real = !options.trace.empty(), .workload = workload};
  CAIRN_ASSIGN_OR_RETURN(report.tiers, TiersOf(options, trace, workload));
  for (const Size& size : options.sizes) SimulateAt(size, options, workload, report);
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
