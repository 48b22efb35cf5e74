#include "bench/peers/table.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <set>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "bench/median.h"
#include "src/base/strings.h"

namespace cairn::peers {
namespace {

using Runs = std::vector<const Figures*>;
using Value = std::function<double(const Figures&)>;

constexpr double kGib = 1 << 30;

std::string Cell(const Runs& runs, const Value& value, int digits) {
  std::vector<double> values;
  values.reserve(runs.size());
  for (const Figures* run : runs) values.push_back(value(*run));
  const auto [min, max] = std::minmax_element(values.begin(), values.end());
  std::string cell = absl::StrFormat("%.*f", digits, Median(values));
  if (values.size() > 1) {
    absl::StrAppend(&cell, absl::StrFormat(" (%.*f to %.*f)", digits, *min, digits, *max));
  }
  return cell;
}

// A latency is one of all runs together: one run has too few batches for it.
std::string LatencyCell(const Runs& runs, Way Figures::*way) {
  std::vector<double> batches_ms;
  for (const Figures* run : runs) {
    for (const uint64_t us : (run->*way).batch_us) {
      batches_ms.push_back(static_cast<double>(us) / 1000);
    }
  }
  return absl::StrFormat("%.1f", Quantile(std::move(batches_ms), 0.99));
}

double PerByte(uint64_t bytes, const Figures& run) {
  return static_cast<double>(bytes) / static_cast<double>(run.bytes);
}

std::string Row(const PeerKind& kind, const Runs& runs) {
  std::string row = absl::StrCat("| `", kind.name, "` |");
  const auto gbps = [](Way Figures::*way) {
    return [way](const Figures& run) {
      return static_cast<double>(run.bytes) / (run.*way).wall_s / 1e9;
    };
  };
  // Shares of a core, over the GiB a second that they paid for: the seconds cancel out.
  const auto cpu = [](Way Figures::*way) {
    return [way](const Figures& run) {
      return 100 * (run.*way).cpu_s / (static_cast<double>(run.bytes) / kGib);
    };
  };
  const std::vector<std::string> cells = {
      Cell(runs, gbps(&Figures::put), 2),
      Cell(runs, gbps(&Figures::get), 2),
      LatencyCell(runs, &Figures::put),
      LatencyCell(runs, &Figures::get),
      Cell(runs, cpu(&Figures::put), 0),
      Cell(runs, cpu(&Figures::get), 0),
      Cell(
          runs, [](const Figures& run) { return PerByte(run.bytes_on_disk, run); }, 2),
      Cell(
          runs, [](const Figures& run) { return PerByte(run.device_bytes_written, run); }, 2),
      Cell(
          runs, [](const Figures& run) { return PerByte(run.device_bytes_read, run); }, 2)};
  for (const std::string& cell : cells) absl::StrAppend(&row, " ", cell, " |");
  return row + "\n";
}

std::string Table(const std::vector<PeerKind>& kinds, const std::vector<Figures>& all,
                  uint64_t tensor_bytes, bool synced) {
  std::string rows;
  for (const PeerKind& kind : kinds) {
    if (kind.synced != synced) continue;
    Runs runs;
    for (const Figures& run : all) {
      if (run.store == kind.name && run.tensor_bytes == tensor_bytes) runs.push_back(&run);
    }
    if (!runs.empty()) rows += Row(kind, runs);
  }
  if (rows.empty()) return "";
  return absl::StrCat(
      "\nTensors of ", FormatBytes(tensor_bytes), ", a put acknowledged when ",
      synced ? "it survives the loss of power" : "it survives the death of the process", ":\n\n",
      "| store | put GB/s | get GB/s | put p99 ms | get p99 ms | CPU put | CPU get | on disk | "
      "written | read |\n|---|---|---|---|---|---|---|---|---|---|\n",
      rows);
}

}  // namespace

std::string MarkdownTables(const std::vector<PeerKind>& kinds, const std::vector<Figures>& runs) {
  std::set<uint64_t> sizes;
  for (const Figures& run : runs) sizes.insert(run.tensor_bytes);
  std::string tables;
  for (const uint64_t size : sizes) {
    absl::StrAppend(&tables, Table(kinds, runs, size, false), Table(kinds, runs, size, true));
  }
  return tables;
}

double Quantile(std::vector<double> values, double share) {
  std::sort(values.begin(), values.end());
  const double rank = std::ceil(share * static_cast<double>(values.size()));
  return values[std::max<size_t>(static_cast<size_t>(rank), 1) - 1];
}

}  // namespace cairn::peers
