#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "bench/median.h"
#include "bench/tier/report.h"

namespace cairn::bench {
namespace {

constexpr int kNameWidthMax = 40;

int NameWidth(absl::Span<const JobReport> reports) {
  int width = static_cast<int>(std::string("memcpy").size()) + 2;
  for (const JobReport& report : reports) {
    width = std::max(width, static_cast<int>(report.job.name.size()));
  }
  return std::min(width, kNameWidthMax);
}

std::string SizeText(const Job& job) {
  if (!job.split.empty()) return "split";
  if (job.block_bytes % (1 << 20) == 0) return absl::StrCat(job.block_bytes >> 20, "m");
  if (job.block_bytes % (1 << 10) == 0) return absl::StrCat(job.block_bytes >> 10, "k");
  return absl::StrCat(job.block_bytes);
}

class Table {
 public:
  explicit Table(absl::Span<const JobReport> reports) : name_width_(NameWidth(reports)) {
    absl::StrAppendFormat(
        &text_,
        "\nSummary: clat percentiles in usec; cpu in percent of a core per GiB/s\n"
        "  %-*s %-5s %6s %5s %9s %9s %9s %9s %9s %6s  %s\n",
        name_width_, "job", "", "bs", "depth", "MiB/s", "IOPS", "p50", "p99", "p99.9", "cpu",
        "of the limit");
    for (const JobReport& report : reports) Add(report);
  }

  std::string Take() { return std::move(text_); }

 private:
  void Add(const JobReport& report) {
    const bool compared = !report.pairs.empty();
    const RunFigures ours = compared ? report.OurMedians() : report.Figures();
    const RunFigures fio = report.FioMedians();
    double percent = compared ? report.percent_of_fio() : report.percent_of_memcpy();
    double cpu = ours.percent_of_core_per_gibps();
    double fio_cpu = fio.percent_of_core_per_gibps();
    // What is of the whole job stands in its first line.
    for (const bool write : {false, true}) {
      if (!(write ? report.job.writes() : report.job.reads())) continue;
      AddLine(report.job.name, write, &report.job, write ? ours.write : ours.read, cpu, percent);
      if (compared) AddLine("  fio", write, nullptr, write ? fio.write : fio.read, fio_cpu, -1);
      percent = cpu = fio_cpu = -1;
    }
    if (const std::string caveat = report.Caveat(); !caveat.empty()) {
      absl::StrAppend(&text_, "    ! ", caveat, "\n");
    }
    if (report.memcpy_bytes_per_s > 0) {
      absl::StrAppendFormat(&text_, "  %-*s %-5s %6s %5s %9.1f\n", name_width_, "  memcpy", "", "",
                            "", report.memcpy_bytes_per_s / 0x1p20);
    }
  }

  // Figures below 0 are left out.
  void AddLine(const std::string& name, bool write, const Job* job,
               const RunFigures::Direction& figures, double cpu, double percent) {
    absl::StrAppendFormat(&text_, "  %-*s %-5s %6s %5s %9.1f %9.0f", name_width_,
                          name.substr(0, kNameWidthMax), write ? "write" : "read",
                          job == nullptr ? "" : SizeText(*job),
                          job == nullptr ? "" : absl::StrCat(job->depth),
                          figures.bytes_per_s / 0x1p20, figures.ios_per_s);
    for (const double ns : figures.clat_ns) absl::StrAppendFormat(&text_, " %9.1f", ns / 1000);
    if (cpu >= 0) absl::StrAppendFormat(&text_, " %6.2f", cpu);
    if (percent > 0) absl::StrAppendFormat(&text_, "  %.1f%%", percent);
    text_ += '\n';
  }

  const int name_width_;
  std::string text_;
};

// How a whole matrix of jobs did beside fio.
std::string ComparisonLine(absl::Span<const JobReport> reports) {
  std::vector<double> percents;
  const JobReport* lowest = nullptr;
  for (const JobReport& report : reports) {
    if (report.pairs.empty()) continue;
    percents.push_back(report.percent_of_fio());
    if (lowest == nullptr || percents.back() < lowest->percent_of_fio()) lowest = &report;
  }
  if (lowest == nullptr || percents.size() < 2) return "";
  return absl::StrFormat("Of fio: median of the %d jobs %.1f%%, lowest %.1f%% (%s)\n",
                         percents.size(), Median(percents), lowest->percent_of_fio(),
                         lowest->job.name);
}

}  // namespace

std::string SummaryTable(absl::Span<const JobReport> reports) {
  return reports.empty() ? "" : Table(reports).Take() + ComparisonLine(reports);
}

}  // namespace cairn::bench
