#include <algorithm>
#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "bench/policy/phase_shift.h"

namespace cairn::policy {
namespace {

constexpr int kSplits = 10;

double Share(const PhaseShift& shift, const PhaseOutcome& outcome, size_t phase) {
  return static_cast<double>(outcome.hit_bytes[phase]) / static_cast<double>(shift.bytes[phase]);
}

double ShareOfAll(const PhaseShift& shift, const PhaseOutcome& outcome) {
  return static_cast<double>(outcome.hit_bytes[0] + outcome.hit_bytes[1]) /
         static_cast<double>(shift.bytes[0] + shift.bytes[1]);
}

// The most that a split of this size hits in the phase.
double BestSplit(const PhaseShift& shift, const std::vector<PhaseResult>& results, const Size& size,
                 size_t phase) {
  double best = 0;
  for (const PhaseResult& result : results) {
    if (result.kv_share < 0 || result.size.text != size.text) continue;
    best = std::max(best, Share(shift, result.outcome, phase));
  }
  return best;
}

double NsPerAccess(const PhaseShift& shift, const PhaseOutcome& outcome) {
  return outcome.seconds * 1e9 / static_cast<double>(shift.accesses);
}

}  // namespace

std::vector<PhaseResult> RunPhaseShift(const PhaseShift& shift, const std::vector<Size>& sizes) {
  std::vector<PhaseResult> results;
  for (const Size& size : sizes) {
    const uint64_t bytes = size.Blocks(shift.distinct_bytes);
    const auto add = [&](const std::string& name, double kv_share, const PhaseOutcome& outcome) {
      results.push_back({size, bytes, name, kv_share, outcome});
    };
    add("pools", -1, SimulatePools(shift, EvictionKind::kTuned, bytes, /*by_class=*/true));
    add("one pool", -1, SimulatePools(shift, EvictionKind::kTuned, bytes, /*by_class=*/false));
    add("lru", -1, SimulatePools(shift, EvictionKind::kLru, bytes, /*by_class=*/false));
    for (int i = 0; i <= kSplits; ++i) {
      const double kv_share = static_cast<double>(i) / kSplits;
      add(absl::StrFormat("split %d/%d", i * 100 / kSplits, 100 - i * 100 / kSplits), kv_share,
          SimulateSplit(shift, EvictionKind::kTuned, bytes, kv_share));
    }
  }
  return results;
}

std::string PhaseShiftTable(const PhaseShift& shift, const std::vector<PhaseResult>& results) {
  constexpr double kGiB = 1 << 30;
  std::string table = absl::StrFormat(
      "a generated workload, 90 %% KV by bytes and then 90 %% vision\n"
      "%d requests, %d accesses, %.1f and %.1f GiB asked for, %.1f GiB distinct\n\n"
      "%6s %9s  %-12s %8s %8s %8s %9s %9s %8s\n",
      shift.requests.size(), shift.accesses, static_cast<double>(shift.bytes[0]) / kGiB,
      static_cast<double>(shift.bytes[1]) / kGiB, static_cast<double>(shift.distinct_bytes) / kGiB,
      "size", "GiB", "", "phase 1", "phase 2", "both", "of best 1", "of best 2", "ns/acc");
  for (const PhaseResult& result : results) {
    const double first = Share(shift, result.outcome, 0);
    const double second = Share(shift, result.outcome, 1);
    absl::StrAppendFormat(
        &table, "%6s %9.1f  %-12s %8.4f %8.4f %8.4f %9.3f %9.3f %8.0f\n", result.size.text,
        static_cast<double>(result.bytes_max) / kGiB, result.name, first, second,
        ShareOfAll(shift, result.outcome), first / BestSplit(shift, results, result.size, 0),
        second / BestSplit(shift, results, result.size, 1), NsPerAccess(shift, result.outcome));
  }
  return table + "\nShares of the bytes asked for that were hit; best is the best of the splits.\n";
}

std::string PhaseShiftJson(const PhaseShift& shift, const std::vector<PhaseResult>& results) {
  nlohmann::ordered_json json = {{"workload", "phase shift"},
                                 {"requests", shift.requests.size()},
                                 {"accesses", shift.accesses},
                                 {"distinct_bytes", shift.distinct_bytes},
                                 {"results", nlohmann::ordered_json::array()}};
  for (const PhaseResult& result : results) {
    nlohmann::ordered_json phases = nlohmann::ordered_json::array();
    for (size_t phase = 0; phase < PhaseShift::kPhases; ++phase) {
      const double share = Share(shift, result.outcome, phase);
      phases.push_back({{"bytes", shift.bytes[phase]},
                        {"hit_bytes", result.outcome.hit_bytes[phase]},
                        {"hit_rate", share},
                        {"of_best_split", share / BestSplit(shift, results, result.size, phase)}});
    }
    json["results"].push_back({{"policy", result.name},
                               {"size", result.size.text},
                               {"bytes_max", result.bytes_max},
                               {"hit_rate", ShareOfAll(shift, result.outcome)},
                               {"phases", phases},
                               {"ns_per_access", NsPerAccess(shift, result.outcome)}});
  }
  return json.dump(2) + "\n";
}

}  // namespace cairn::policy
