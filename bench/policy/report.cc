#include "bench/policy/report.h"

#include <nlohmann/json.hpp>
#include <optional>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace cairn::policy {
namespace {

struct Rates {
  double hit_rate = 0;
  double writes_per_access = 0;
  double ns_per_access = 0;

  Rates(const Outcome& outcome, const Workload& workload)
      : hit_rate(static_cast<double>(outcome.hits) / static_cast<double>(workload.accesses)),
        writes_per_access(static_cast<double>(outcome.writes) /
                          static_cast<double>(workload.accesses)),
        ns_per_access(outcome.seconds * 1e9 / static_cast<double>(workload.accesses)) {}
};

double CostSpared(const Outcome& outcome, const Workload& workload) {
  double all = 0;
  for (const std::vector<uint32_t>& request : workload.requests) {
    for (const uint32_t block : request) all += workload.costs[block];
  }
  return outcome.hit_cost / all;
}

std::string CostText(const Result& result, const Workload& workload) {
  if (!result.untold.has_value()) return "";
  return absl::StrFormat("  cost spared %.4f, untold %.4f", CostSpared(result.outcome, workload),
                         CostSpared(*result.untold, workload));
}

nlohmann::ordered_json ToJson(const Result& result, const Workload& workload) {
  const Rates rates(result.outcome, workload);
  nlohmann::ordered_json json = {{"policy", result.policy},
                                 {"size", result.size.text},
                                 {"blocks", result.blocks},
                                 {"hit_rate", rates.hit_rate},
                                 {"ssd_writes_per_access", rates.writes_per_access},
                                 {"ns_per_access", rates.ns_per_access}};
  if (result.unbroken_hits.has_value()) {
    json["hits"] = result.outcome.hits;
    json["unbroken_hits"] = *result.unbroken_hits;
  }
  if (result.untold.has_value()) {
    json["cost_spared"] = CostSpared(result.outcome, workload);
    json["cost_spared_untold"] = CostSpared(*result.untold, workload);
    json["hit_rate_untold"] = Rates(*result.untold, workload).hit_rate;
  }
  return json;
}

// Beside the table's line of a run with restarts.
std::string UnbrokenText(const Result& result) {
  if (!result.unbroken_hits.has_value()) return "";
  return absl::StrFormat("  %d hits, %d without restarts", result.outcome.hits,
                         *result.unbroken_hits);
}

const Result& AtSizeOf(const std::vector<Result>& results, const Result& other) {
  for (const Result& result : results) {
    if (result.size.text == other.size.text) return result;
  }
  return other;
}

// What the budget grants over the workload / blocks accessed, in blocks. None: there is no budget.
std::optional<double> BudgetPerAccess(const Report& report) {
  if (!report.tiers.has_value() || !report.tiers->write_bytes_per_day.has_value()) {
    return std::nullopt;
  }
  const double days = report.workload.span_days();
  return static_cast<double>(*report.tiers->write_bytes_per_day) * days /
         static_cast<double>(report.tiers->block_bytes) /
         static_cast<double>(report.workload.accesses);
}

std::string TiersLine(const Report& report) {
  if (!report.tiers.has_value()) return "";
  const Tiers& tiers = *report.tiers;
  std::string text =
      absl::StrFormat("two tiers: L2 of %d blocks, L3 of the size below; ", tiers.l2_blocks_max);
  const std::optional<double> per_access = BudgetPerAccess(report);
  if (!per_access.has_value()) return text + "every block is written to L3\n";
  absl::StrAppendFormat(&text,
                        "%.4g GB a day may be written to L3: with %.4g MB a block %.4f blocks an "
                        "access\n",
                        static_cast<double>(*tiers.write_bytes_per_day) / 1e9,
                        static_cast<double>(tiers.block_bytes) / 1e6, *per_access);
  return text;
}

}  // namespace

std::string ReportTable(const Report& report) {
  const Workload& workload = report.workload;
  std::string text = absl::StrFormat(
      "%s, %s\n%d requests, %d block accesses, %d distinct blocks; a cache without end hits "
      "%.4f\n%s\n"
      "%8s %10s  %-10s %9s %9s %9s %10s %10s %10s\n",
      report.source, report.real ? "a recorded workload" : "not a real workload",
      workload.requests.size(), workload.accesses, workload.blocks, workload.hit_rate_max(),
      TiersLine(report), "size", "blocks", "policy", "hit rate", "LRU", "Belady", "writes/acc",
      "LRU's", "ns/acc");
  for (const Result& result : report.results) {
    const Rates rates(result.outcome, workload);
    const Rates lru(AtSizeOf(report.lru, result).outcome, workload);
    absl::StrAppendFormat(&text, "%8s %10d  %-10s %9.4f %9.4f %9.4f %10.4f %10.4f %10.0f%s%s\n",
                          result.size.text, result.blocks, result.policy, rates.hit_rate,
                          lru.hit_rate,
                          Rates(AtSizeOf(report.belady, result).outcome, workload).hit_rate,
                          rates.writes_per_access, lru.writes_per_access, rates.ns_per_access,
                          UnbrokenText(result), CostText(result, workload));
  }
  return text;
}

std::string ReportJson(const Report& report) {
  const Workload& workload = report.workload;
  nlohmann::ordered_json json = {{"source", report.source},
                                 {"real", report.real},
                                 {"requests", workload.requests.size()},
                                 {"accesses", workload.accesses},
                                 {"distinct_blocks", workload.blocks},
                                 {"hit_rate_max", workload.hit_rate_max()}};
  if (report.tiers.has_value()) {
    json["l2_blocks"] = report.tiers->l2_blocks_max;
    json["block_bytes"] = report.tiers->block_bytes;
    json["span_s"] = static_cast<double>(workload.span_ms()) / 1e3;
    json["write_budget_bytes_per_day"] = nullptr;
    json["write_budget_per_access"] = nullptr;
  }
  if (const std::optional<double> per_access = BudgetPerAccess(report)) {
    json["write_budget_bytes_per_day"] = *report.tiers->write_bytes_per_day;
    json["write_budget_per_access"] = *per_access;
  }
  const auto add = [&](const char* name, const std::vector<Result>& results) {
    json[name] = nlohmann::ordered_json::array();
    for (const Result& result : results) json[name].push_back(ToJson(result, workload));
  };
  add("results", report.results);
  add("lru", report.lru);
  add("belady", report.belady);
  return json.dump(2) + "\n";
}

}  // namespace cairn::policy
