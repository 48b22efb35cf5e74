#include <algorithm>
#include <cmath>
#include <ctime>
#include <map>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "bench/tier/report.h"

namespace cairn::bench {
namespace {

// At most four digits: "651", "18.6k", "3.42M".
std::string Short(double value, double base, std::initializer_list<const char*> units) {
  const char* const* unit = units.begin();
  while (value >= 9999.5 && unit + 1 != units.end()) {
    value /= base;
    ++unit;
  }
  const bool whole = unit == units.begin() || value >= 100;
  const int digits = whole ? 0 : value >= 10 ? 1 : 2;
  return absl::StrFormat("%.*f%s", digits, value, *unit);
}

std::string Count(double value) { return Short(value, 1000, {"", "k", "M", "G"}); }
std::string Binary(double bytes) { return Short(bytes / 1024, 1024, {"KiB", "MiB", "GiB", "TiB"}); }
std::string Decimal(double bytes) { return Short(bytes / 1000, 1000, {"kB", "MB", "GB", "TB"}); }
std::string Both(double bytes, const char* per) {
  return absl::StrCat(Binary(bytes), per, " (", Decimal(bytes), per, ")");
}

struct TimeUnit {
  const char* name;
  double ns;
};
// The one in which the figures have few digits and none is lost.
TimeUnit UnitOf(const Latency& latency) {
  const auto min_ns = static_cast<double>(latency.min_ns());
  const auto max_ns = static_cast<double>(latency.max_ns());
  if (min_ns > 2e6 && max_ns > 99999e3) return {"msec", 1e6};
  if (min_ns > 2e3 && max_ns > 99999) return {"usec", 1e3};
  return {"nsec", 1};
}

void AddLatency(const char* name, const Latency& latency, std::string& text) {
  if (latency.count() == 0) return;
  const TimeUnit unit = UnitOf(latency);
  absl::StrAppendFormat(&text, "    %s (%s): min=%.0f, max=%s, avg=%5.2f, stdev=%5.2f\n", name,
                        unit.name, static_cast<double>(latency.min_ns()) / unit.ns,
                        Count(static_cast<double>(latency.max_ns()) / unit.ns),
                        latency.mean_ns() / unit.ns, latency.stddev_ns() / unit.ns);
}

void AddPercentiles(const char* name, const Latency& latency, std::string& text) {
  if (latency.count() == 0) return;
  const TimeUnit unit = UnitOf(latency);
  absl::StrAppendFormat(&text, "    %s percentiles (%s):\n", name, unit.name);
  const size_t width =
      absl::StrFormat(
          "%.0f", static_cast<double>(latency.PercentileNs(Latency::kPercentiles.back())) / unit.ns)
          .size();
  for (size_t i = 0; i < Latency::kPercentiles.size(); ++i) {
    const bool last = i + 1 == Latency::kPercentiles.size();
    absl::StrAppendFormat(
        &text, "%s%5.2fth=[%*.0f]%s", i % 4 == 0 ? "     | " : " ", Latency::kPercentiles[i],
        static_cast<int>(std::max<size_t>(5, width)),
        static_cast<double>(latency.PercentileNs(Latency::kPercentiles[i])) / unit.ns,
        last ? "\n" : (i % 4 == 3 ? ",\n" : ","));
  }
}

struct Spread {
  explicit Spread(const std::vector<double>& values) : count(values.size()) {
    if (values.empty()) return;
    min = *std::min_element(values.begin(), values.end());
    max = *std::max_element(values.begin(), values.end());
    for (const double value : values) mean += value / static_cast<double>(count);
    for (const double value : values) stddev += (value - mean) * (value - mean);
    stddev = count < 2 ? 0 : std::sqrt(stddev / static_cast<double>(count - 1));
  }
  size_t count;
  double min = 0;
  double max = 0;
  double mean = 0;
  double stddev = 0;
};

void AddSamples(const Direction& direction, std::string& text) {
  if (direction.bytes_per_s_samples.empty()) return;
  const Spread bytes(direction.bytes_per_s_samples);
  const Spread ios(direction.ios_per_s_samples);
  absl::StrAppendFormat(&text,
                        "   bw (  KiB/s): min=%5.0f, max=%5.0f, per=100.00%%, avg=%5.2f, "
                        "stdev=%5.2f, samples=%d\n",
                        bytes.min / 1024, bytes.max / 1024, bytes.mean / 1024, bytes.stddev / 1024,
                        bytes.count);
  absl::StrAppendFormat(&text,
                        "   iops        : min=%5.0f, max=%5.0f, avg=%5.2f, stdev=%5.2f, "
                        "samples=%d\n",
                        ios.min, ios.max, ios.mean, ios.stddev, ios.count);
}

void AddDirection(const char* name, const Direction& direction, double runtime_s,
                  std::string& text) {
  if (direction.ios == 0) return;
  const auto bytes = static_cast<double>(direction.bytes);
  const double seconds = std::max(runtime_s, 1e-9);
  absl::StrAppendFormat(&text, "  %s: IOPS=%s, BW=%s(%s/%.0fmsec)\n", name,
                        Count(static_cast<double>(direction.ios) / seconds),
                        Both(bytes / seconds, "/s"), Binary(bytes), runtime_s * 1000);
  AddLatency("slat", direction.slat, text);
  AddLatency("clat", direction.clat, text);
  AddLatency(" lat", direction.lat, text);
  AddPercentiles("clat", direction.clat, text);
  AddSamples(direction, text);
}

void AddDepths(const JobReport& report, std::string& text) {
  uint64_t total = 0;
  for (const uint64_t count : report.depth_levels) total += count;
  constexpr std::array<const char*, 7> kNames = {"1", "2", "4", "8", "16", "32", ">=64"};
  text += "  IO depths    : ";
  for (size_t i = 0; i < kNames.size(); ++i) {
    const double percent =
        total == 0 ? 0
                   : 100 * static_cast<double>(report.depth_levels[i]) / static_cast<double>(total);
    absl::StrAppendFormat(&text, "%s%s=%.1f%%", i == 0 ? "" : ", ", kNames[i], percent);
  }
  absl::StrAppendFormat(&text,
                        "\n     issued rwts: total=%d,%d,0,%d short=0,0,0,0 dropped=0,0,0,0\n",
                        report.read.ios, report.write.ios, report.sync.count());
  absl::StrAppendFormat(&text,
                        "     latency   : target=0, window=0, percentile=100.00%%, depth=%d\n",
                        report.job.depth);
}

void AddTensorStore(const JobReport& report, std::string& text) {
  const TargetFacts& facts = report.facts;
  absl::StrAppendFormat(&text,
                        "  tensor store : tier=%s, engine=%s, pages=%s, registered=%d, direct=%d\n",
                        TierName(report.job.tier), facts.engine, facts.pages,
                        facts.registered ? 1 : 0, facts.direct ? 1 : 0);
  if (report.job.polls_submissions || report.job.polls_completions) {
    absl::StrAppendFormat(&text, "     polling   : submissions=%d, completions=%d\n",
                          facts.submissions_polled ? 1 : 0, facts.completions_polled ? 1 : 0);
  }
  absl::StrAppendFormat(
      &text,
      "     cpu       : %.4f s per GB, %.2f%% of a core per GiB/s\n"
      "     tiers     : l1 hits=%d, l2 hits=%d, l3 hits=%d, checksum failures=%d\n",
      report.cpu_seconds_per_gb(), report.percent_of_core_per_gibps(), report.counters.l1_hits,
      report.counters.l2_hits, report.counters.l3_hits, report.counters.checksum_failures);
  if (report.write.bytes > 0) {
    absl::StrAppendFormat(&text, "     device    : %.3f bytes written per byte\n",
                          report.device_bytes_per_user_byte());
  }
  if (report.job.verify) {
    absl::StrAppendFormat(&text, "     verified  : %d bytes, failures=%d\n", report.bytes_verified,
                          report.verify_failures);
  }
  if (report.memcpy_bytes_per_s > 0) {
    absl::StrAppendFormat(&text, "     memcpy    : %s, of which this is %.1f%%\n",
                          Both(report.memcpy_bytes_per_s, "/s"), report.percent_of_memcpy());
  }
  for (size_t i = 0; i < report.pairs.size(); ++i) {
    const FioPair& pair = report.pairs[i];
    absl::StrAppendFormat(&text, "     pair %-5d: fio %s, tier-bench %s, ratio %.3f%s\n", i + 1,
                          Both(pair.fio.bytes_per_s(), "/s"), Both(pair.ours.bytes_per_s(), "/s"),
                          pair.ratio(), pair.huge_pages ? "" : " (small pages)");
  }
  if (!report.pairs.empty()) {
    absl::StrAppendFormat(&text, "     of fio    : %.1f%% (median of %d ratios)\n",
                          report.percent_of_fio(), report.pairs.size());
  }
}

std::string TimeText() {
  const std::time_t now = std::time(nullptr);
  std::tm local = {};
  localtime_r(&now, &local);
  char text[64] = {};
  std::strftime(text, sizeof(text), "%a %b %e %H:%M:%S %Y", &local);
  return text;
}

void AddJob(const JobReport& report, std::string& text) {
  absl::StrAppendFormat(&text, "%s: (groupid=%d, jobs=%d): err=%2d%s: %s\n", report.job.name,
                        report.group, report.threads, report.error,
                        report.error == 0 ? "" : absl::StrCat(" (", report.error_text, ")"),
                        TimeText());
  AddDirection("read", report.read, report.runtime_s, text);
  AddDirection("write", report.write, report.runtime_s, text);
  if (report.sync.count() > 0) {
    text += "  fsync/fdatasync/sync_file_range:\n";
    AddLatency("sync", report.sync, text);
    AddPercentiles("sync", report.sync, text);
  }
  const double seconds = std::max(report.runtime_s, 1e-9);
  absl::StrAppendFormat(
      &text, "  cpu          : usr=%3.2f%%, sys=%3.2f%%, ctx=%d, majf=%d, minf=%d\n",
      100 * report.cpu.user_s / seconds, 100 * report.cpu.system_s / seconds,
      report.cpu.context_switches, report.cpu.major_faults, report.cpu.minor_faults);
  AddDepths(report, text);
  AddTensorStore(report, text);
}

void AddGroupLine(const char* name, absl::Span<const JobReport* const> reports,
                  Direction JobReport::*direction, std::string& text) {
  double bytes = 0;
  double slowest = INFINITY;
  double fastest = 0;
  double shortest_s = INFINITY;
  double longest_s = 0;
  for (const JobReport* report : reports) {
    const auto moved = static_cast<double>((report->*direction).bytes);
    if (moved == 0) continue;
    const double seconds = std::max(report->runtime_s, 1e-9);
    bytes += moved;
    slowest = std::min(slowest, moved / seconds);
    fastest = std::max(fastest, moved / seconds);
    shortest_s = std::min(shortest_s, seconds);
    longest_s = std::max(longest_s, seconds);
  }
  if (bytes == 0) return;
  absl::StrAppendFormat(
      &text, "  %s: bw=%s, %s/s-%s/s (%s/s-%s/s), io=%s (%s), run=%.0f-%.0fmsec\n", name,
      Both(bytes / longest_s, "/s"), Binary(slowest), Binary(fastest), Decimal(slowest),
      Decimal(fastest), Binary(bytes), Decimal(bytes), shortest_s * 1000, longest_s * 1000);
}

}  // namespace

std::string ReportText(absl::Span<const JobReport> reports) {
  std::string text;
  std::map<uint32_t, std::vector<const JobReport*>> groups;
  for (const JobReport& report : reports) {
    AddJob(report, text);
    groups[report.group].push_back(&report);
  }
  for (const auto& [group, members] : groups) {
    absl::StrAppendFormat(&text, "\nRun status group %d (all jobs):\n", group);
    AddGroupLine(" READ", members, &JobReport::read, text);
    AddGroupLine("WRITE", members, &JobReport::write, text);
  }
  return text + SummaryTable(reports);
}

}  // namespace cairn::bench
