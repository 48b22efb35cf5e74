#include <algorithm>
#include <chrono>
#include <cmath>
#include <ctime>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "bench/tier/report.h"
#include "nlohmann/json.hpp"

namespace cairn::bench {
namespace {

using Json = nlohmann::ordered_json;

// The program whose tree and names these are.
constexpr const char* kSchema = "fio-3.33";

Json LatencyJson(const Latency& latency) {
  return {{"min", latency.min_ns()},
          {"max", latency.max_ns()},
          {"mean", latency.mean_ns()},
          {"stddev", latency.stddev_ns()},
          {"N", latency.count()}};
}

Json PercentilesJson(const Latency& latency, bool bins) {
  Json json = LatencyJson(latency);
  if (latency.count() == 0) return json;
  for (const double percent : Latency::kPercentiles) {
    json["percentile"][absl::StrFormat("%.6f", percent)] = latency.PercentileNs(percent);
  }
  if (!bins) return json;
  for (const Latency::Bin& bin : latency.Bins()) json["bins"][absl::StrCat(bin.ns)] = bin.count;
  return json;
}

void AddSamples(const std::vector<double>& samples, double scale, const std::string& prefix,
                const char* deviation, Json& json) {
  double min = 0;
  double max = 0;
  double mean = 0;
  double squares = 0;
  if (!samples.empty()) {
    min = *std::min_element(samples.begin(), samples.end()) / scale;
    max = *std::max_element(samples.begin(), samples.end()) / scale;
    for (const double sample : samples)
      mean += sample / scale / static_cast<double>(samples.size());
    for (const double sample : samples) squares += std::pow(sample / scale - mean, 2);
  }
  json[prefix + "_min"] = std::llround(min);
  json[prefix + "_max"] = std::llround(max);
  if (prefix == "bw") json["bw_agg"] = samples.empty() ? 0.0 : 100.0;
  json[prefix + "_mean"] = mean;
  json[prefix + deviation] =
      samples.size() < 2 ? 0 : std::sqrt(squares / static_cast<double>(samples.size() - 1));
  json[prefix + "_samples"] = samples.size();
}

Json DirectionJson(const Direction& direction, double runtime_s, bool bins) {
  const double seconds = std::max(runtime_s, 1e-9);
  const double bytes_per_s = static_cast<double>(direction.bytes) / seconds;
  Json json;
  json["io_bytes"] = direction.bytes;
  json["io_kbytes"] = direction.bytes / 1024;
  json["bw_bytes"] = std::llround(bytes_per_s);
  json["bw"] = std::llround(bytes_per_s / 1024);
  json["iops"] = static_cast<double>(direction.ios) / seconds;
  json["runtime"] = direction.ios == 0 ? 0 : std::llround(runtime_s * 1000);
  json["total_ios"] = direction.ios;
  json["short_ios"] = 0;
  json["drop_ios"] = 0;
  json["slat_ns"] = LatencyJson(direction.slat);
  json["clat_ns"] = PercentilesJson(direction.clat, bins);
  json["lat_ns"] = LatencyJson(direction.lat);
  AddSamples(direction.bytes_per_s_samples, 1024, "bw", "_dev", json);
  AddSamples(direction.ios_per_s_samples, 1, "iops", "_stddev", json);
  return json;
}

Json DepthJson(const JobReport& report) {
  constexpr std::array<const char*, 7> kNames = {"1", "2", "4", "8", "16", "32", ">=64"};
  uint64_t total = 0;
  for (const uint64_t count : report.depth_levels) total += count;
  Json json;
  for (size_t i = 0; i < kNames.size(); ++i) {
    json[kNames[i]] =
        total == 0 ? 0.0
                   : 100 * static_cast<double>(report.depth_levels[i]) / static_cast<double>(total);
  }
  return json;
}

Json TensorStoreJson(const JobReport& report) {
  const TargetFacts& facts = report.facts;
  Json json;
  json["tier"] = TierName(report.job.tier);
  json["engine"] = facts.engine;
  json["pages"] = facts.pages;
  json["registered"] = facts.registered;
  json["direct"] = facts.direct;
  json["submissions_polled"] = facts.submissions_polled;
  json["completions_polled"] = facts.completions_polled;
  json["polling_refusal"] = facts.polling_refusal;
  json["device"] = facts.device;
  json["io_bytes_in_flight_max"] = facts.bytes_in_flight_max;
  if (const std::string caveat = report.Caveat(); !caveat.empty()) json["caveat"] = caveat;
  json["cpu_seconds_per_gb"] = report.cpu_seconds_per_gb();
  json["percent_of_core_per_gibps"] = report.percent_of_core_per_gibps();
  json["l1_hits"] = report.counters.l1_hits;
  json["l2_hits"] = report.counters.l2_hits;
  json["l3_hits"] = report.counters.l3_hits;
  json["checksum_failures"] = report.counters.checksum_failures;
  json["verified_bytes"] = report.bytes_verified;
  json["verify_failures"] = report.verify_failures;
  json["device_bytes_written"] = report.counters.device_bytes_written;
  json["device_bytes_written_per_user_byte"] = report.device_bytes_per_user_byte();
  if (report.memcpy_bytes_per_s > 0) {
    json["memcpy_bw_bytes"] = std::llround(report.memcpy_bytes_per_s);
    json["percent_of_memcpy"] = report.percent_of_memcpy();
  }
  return json;
}

Json FiguresJson(const RunFigures& figures) {
  const auto direction_json = [](const RunFigures::Direction& direction) {
    Json json = {{"bw_bytes", std::llround(direction.bytes_per_s)}, {"iops", direction.ios_per_s}};
    for (size_t i = 0; i < direction.clat_ns.size(); ++i) {
      json["clat_ns"]["percentile"][absl::StrFormat("%.6f", RunFigures::kPercentiles[i])] =
          std::llround(direction.clat_ns[i]);
    }
    return json;
  };
  return {{"read", direction_json(figures.read)},
          {"write", direction_json(figures.write)},
          {"percent_of_core_per_gibps", figures.percent_of_core_per_gibps()}};
}

Json JobJson(const JobReport& report, bool bins) {
  const double seconds = std::max(report.runtime_s, 1e-9);
  Json json;
  json["jobname"] = report.job.name;
  json["groupid"] = report.group;
  json["error"] = report.error;
  json["eta"] = 0;
  json["elapsed"] = std::llround(std::ceil(report.runtime_s + report.job.ramp_s));
  json["job options"]["name"] = report.job.name;
  for (const auto& [name, value] : report.job.given) json["job options"][name] = value;
  json["read"] = DirectionJson(report.read, report.runtime_s, bins);
  json["write"] = DirectionJson(report.write, report.runtime_s, bins);
  json["trim"] = DirectionJson({}, 0, false);
  json["sync"] = {{"total_ios", report.sync.count()},
                  {"lat_ns", PercentilesJson(report.sync, bins)}};
  json["job_runtime"] = std::llround(report.runtime_s * 1000);
  json["usr_cpu"] = 100 * report.cpu.user_s / seconds;
  json["sys_cpu"] = 100 * report.cpu.system_s / seconds;
  json["ctx"] = report.cpu.context_switches;
  json["majf"] = report.cpu.major_faults;
  json["minf"] = report.cpu.minor_faults;
  json["iodepth_level"] = DepthJson(report);
  json["latency_depth"] = report.job.depth;
  json["latency_target"] = 0;
  json["latency_percentile"] = 100.0;
  json["latency_window"] = 0;
  if (report.error != 0) json["error_text"] = report.error_text;
  json["tensor_store"] = TensorStoreJson(report);
  if (report.pairs.empty()) return json;
  json["percent_of_fio"] = report.percent_of_fio();
  json["pair_medians"] = {{"fio", FiguresJson(report.FioMedians())},
                          {"tier-bench", FiguresJson(report.OurMedians())}};
  for (const FioPair& pair : report.pairs) {
    json["fio_pairs"].push_back({{"fio_bw_bytes", std::llround(pair.fio.bytes_per_s())},
                                 {"bw_bytes", std::llround(pair.ours.bytes_per_s())},
                                 {"ratio", pair.ratio()},
                                 {"huge_pages", pair.huge_pages}});
  }
  return json;
}

}  // namespace

std::string ReportJson(absl::Span<const JobReport> reports, bool bins) {
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  const std::time_t seconds = std::chrono::duration_cast<std::chrono::seconds>(now).count();
  std::tm local = {};
  localtime_r(&seconds, &local);
  char time[64] = {};
  std::strftime(time, sizeof(time), "%a %b %e %H:%M:%S %Y", &local);
  Json json;
  json["fio version"] = kSchema;
  json["program"] = "tier-bench";
  json["timestamp"] = seconds;
  json["timestamp_ms"] = std::chrono::duration_cast<std::chrono::milliseconds>(now).count();
  json["time"] = time;
  json["jobs"] = Json::array();
  for (const JobReport& report : reports) json["jobs"].push_back(JobJson(report, bins));
  json["disk_util"] = Json::array();
  // File names need not be UTF-8.
  return json.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

}  // namespace cairn::bench
