#include "bench/tier/measurement.h"

#include <sys/resource.h>

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "bench/median.h"

namespace cairn::bench {
namespace {

double Seconds(const timeval& time) {
  return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_usec) / 1e6;
}

double Ratio(double part, double whole) { return whole > 0 ? part / whole : 0; }

}  // namespace

CpuUsage CpuUsage::Now() {
  rusage used = {};
  getrusage(RUSAGE_SELF, &used);
  return {.user_s = Seconds(used.ru_utime),
          .system_s = Seconds(used.ru_stime),
          .context_switches = static_cast<uint64_t>(used.ru_nvcsw + used.ru_nivcsw),
          .major_faults = static_cast<uint64_t>(used.ru_majflt),
          .minor_faults = static_cast<uint64_t>(used.ru_minflt)};
}

CpuUsage CpuUsage::Since(const CpuUsage& before) const {
  return {.user_s = user_s - before.user_s,
          .system_s = system_s - before.system_s,
          .context_switches = context_switches - before.context_switches,
          .major_faults = major_faults - before.major_faults,
          .minor_faults = minor_faults - before.minor_faults};
}

void Direction::Add(const Direction& other) {
  ios += other.ios;
  bytes += other.bytes;
  slat.Add(other.slat);
  clat.Add(other.clat);
  lat.Add(other.lat);
  // Jobs that run together are sampled at the same times: their rates add up.
  const size_t count = std::max(bytes_per_s_samples.size(), other.bytes_per_s_samples.size());
  bytes_per_s_samples.resize(count);
  ios_per_s_samples.resize(count);
  for (size_t i = 0; i < other.bytes_per_s_samples.size(); ++i) {
    bytes_per_s_samples[i] += other.bytes_per_s_samples[i];
    ios_per_s_samples[i] += other.ios_per_s_samples[i];
  }
}

void JobReport::Merge(const JobReport& other) {
  read.Add(other.read);
  write.Add(other.write);
  sync.Add(other.sync);
  for (size_t i = 0; i < depth_levels.size(); ++i) depth_levels[i] += other.depth_levels[i];
  bytes_verified += other.bytes_verified;
  verify_failures += other.verify_failures;
  // Both are of the process, or of the target, over much the same time: the longer look has all.
  if (other.runtime_s > runtime_s) {
    runtime_s = other.runtime_s;
    cpu = other.cpu;
    counters = other.counters;
  }
  threads += other.threads;
  memcpy_bytes_per_s += other.memcpy_bytes_per_s;
  if (error != 0) return;
  error = other.error;
  error_text = other.error_text;
}

RunFigures JobReport::Figures() const {
  const auto direction_figures = [this](const Direction& direction) {
    RunFigures::Direction figures = {
        .bytes_per_s = Ratio(static_cast<double>(direction.bytes), runtime_s),
        .ios_per_s = Ratio(static_cast<double>(direction.ios), runtime_s)};
    for (size_t i = 0; i < figures.clat_ns.size(); ++i) {
      figures.clat_ns[i] =
          static_cast<double>(direction.clat.PercentileNs(RunFigures::kPercentiles[i]));
    }
    return figures;
  };
  return {.read = direction_figures(read),
          .write = direction_figures(write),
          .cores = cpu_seconds_per_gb() * bytes_per_s() / 1e9};
}

RunFigures JobReport::FioMedians() const {
  std::vector<RunFigures> runs;
  for (const FioPair& pair : pairs) runs.push_back(pair.fio);
  return MedianFigures(runs);
}

RunFigures JobReport::OurMedians() const {
  std::vector<RunFigures> runs;
  for (const FioPair& pair : pairs) runs.push_back(pair.ours);
  return MedianFigures(runs);
}

std::string JobReport::Caveat() const {
  if (job.tier == Tier::kGpu) {
    const std::string device =
        facts.device == "host" ? "HostDevice stands in for a GPU: this says nothing of one" : "";
    if (counters.l1_hits == 0) return device;
    return absl::StrCat(counters.l1_hits, " reads were in L1 already", device.empty() ? "" : "; ",
                        device);
  }
  if (job.tier == Tier::kPinned) {
    if (counters.l3_hits == 0) return "";
    return absl::StrCat(counters.l3_hits, " reads came from L3, not from L2");
  }
  if (job.tier == Tier::kStore && job.reads() && counters.l2_hits > 0) {
    return absl::StrCat(counters.l2_hits, " of ", counters.l2_hits + counters.l3_hits,
                        " reads were served by L2, not by L3");
  }
  if (job.engine == Engine::kNull || facts.direct) return "";
  return "the page cache is in it: the file system refuses O_DIRECT";
}

double JobReport::bytes_per_s() const {
  return Ratio(static_cast<double>(read.bytes + write.bytes), runtime_s);
}

double JobReport::cpu_seconds_per_gb() const {
  return Ratio(cpu.user_s + cpu.system_s, static_cast<double>(cpu_bytes) / 1e9);
}

double JobReport::percent_of_core_per_gibps() const {
  return 100 * Ratio(cpu.user_s + cpu.system_s, static_cast<double>(cpu_bytes) / 0x1p30);
}

double JobReport::device_bytes_per_user_byte() const {
  return Ratio(static_cast<double>(counters.device_bytes_written),
               static_cast<double>(target_bytes_written));
}

double JobReport::percent_of_memcpy() const {
  return 100 * Ratio(bytes_per_s(), memcpy_bytes_per_s);
}

double JobReport::percent_of_fio() const {
  std::vector<double> ratios;
  for (const FioPair& pair : pairs) ratios.push_back(pair.ratio());
  return 100 * Median(ratios);
}

}  // namespace cairn::bench
