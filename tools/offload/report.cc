#include "tools/offload/report.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <filesystem>
#include <numeric>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "nlohmann/json.hpp"
#include "src/base/strings.h"
#include "tools/offload/class_shares.h"
#include "tools/offload/store_options.h"

namespace cairn::offload {
namespace {

double PerSecond(uint64_t bytes, double seconds) {
  return seconds > 0 ? static_cast<double>(bytes) / 1e9 / seconds : 0;
}

double Gigabytes(uint64_t bytes) { return static_cast<double>(bytes) / 1e9; }

uint64_t BytesStored(const Outcome& outcome) { return outcome.stats.l2.bytes_written; }

uint64_t HitsOf(const Outcome& outcome, TensorClass tensor_class) {
  return outcome.tally.hits_by_class[static_cast<size_t>(tensor_class)];
}

// "host" alone would not say that it is no GPU.
std::string DeviceOf(const Outcome& outcome) {
  if (outcome.stats.device != "host") return outcome.stats.device;
  return "host (HostDevice stands in for a GPU)";
}

std::string SourceOf(const Outcome& outcome) {
  if (!outcome.options.trace.empty()) return outcome.options.trace;
  return absl::StrCat("generated workload, seed ", outcome.options.seed);
}

std::string EngineOf(const StatsSnapshot& stats) {
  return absl::StrCat(stats.io_engine, stats.io_submissions_polled ? ", submissions polled" : "",
                      stats.io_completions_polled ? ", completions polled" : "");
}

nlohmann::ordered_json ConfigJson(const Outcome& outcome) {
  const Options& options = outcome.options;
  nlohmann::ordered_json config;
  config["trace"] = options.trace;
  config["trace_format"] = TraceFormatName(outcome.format);
  config["requests_max"] = options.requests;
  config["seed"] = options.seed;
  config["model"] = options.model.has_value() ? options.model->name : "";
  config["kv_bytes_per_token"] = options.kv_bytes_per_token;
  config["scale"] = options.scale;
  config["block_tokens"] = outcome.block.tokens;
  config["block_bytes"] = outcome.block.bytes;
  config["fingerprint"] = outcome.block.fingerprint;
  config["class_mix"] = outcome.block.mix.ToString();
  config["l1_bytes"] = options.l1_bytes;
  config["gpus"] = options.gpus;
  config["l1_memory"] = options.l1_memory == L1Memory::kManaged ? "managed" : "device";
  config["l2_bytes"] = options.l2_bytes;
  config["l2_allocator"] = AllocatorName(options.l2_allocator);
  config["l2_class_shares"] = ToString(options.l2_class_shares);
  config["l3_bytes"] = options.l3_bytes;
  config["l3_class_shares"] = ToString(options.l3_class_shares);
  config["l3_bytes_for_tensors"] = outcome.stats.l3.bytes_max;
  config["speed"] =
      options.speed > 0 ? nlohmann::ordered_json(options.speed) : nlohmann::ordered_json("max");
  config["concurrency"] = options.concurrency;
  config["hints"] = options.hints;
  config["predict"] = options.predict;
  config["window"] = options.window;
  config["decode_tokens_per_s"] = options.decode_tokens_per_s;
  config["write_policy"] = options.write_policy == WritePolicy::kWriteThrough ? "through" : "back";
  config["prefill_tokens_per_s"] = options.prefill_tokens_per_s;
  return config;
}

// What was guessed and asked for, of what was guessed; and of that and what was asked for and lay
// on L3 alone with no prefetch under way.
double AccuracyOf(const StatsSnapshot& stats) {
  if (stats.predictions == 0) return 0;
  return static_cast<double>(stats.predictions_used + stats.predictions_late) /
         static_cast<double>(stats.predictions);
}

double CoverageOf(const StatsSnapshot& stats) {
  const uint64_t used = stats.predictions_used + stats.predictions_late;
  const uint64_t prefetched = stats.prefetches + stats.predictions;
  const uint64_t missed = stats.fills - std::min(prefetched, stats.fills);
  return used == 0 ? 0 : static_cast<double>(used) / static_cast<double>(used + missed);
}

nlohmann::ordered_json PredictionsJson(const StatsSnapshot& stats) {
  return {{"taken", stats.predictions},
          {"used", stats.predictions_used},
          {"late", stats.predictions_late},
          {"unused", stats.predictions_unused},
          {"cancelled", stats.predictions_cancelled},
          {"accuracy", AccuracyOf(stats)},
          {"coverage", CoverageOf(stats)}};
}

class Table {
 public:
  void Row(const char* name, const std::string& value) {
    absl::StrAppendFormat(&text_, "  %-22s %s\n", name, value);
  }
  const std::string& text() const { return text_; }

 private:
  std::string text_;
};

void AddTrafficRows(const Outcome& outcome, const Report& report, Table& table) {
  const Tally& tally = outcome.tally;
  table.Row("requests",
            absl::StrFormat("%d%s in %.1f s", tally.requests,
                            outcome.interrupted ? " (interrupted)" : "", outcome.wall_s));
  table.Row("blocks", absl::StrFormat("%d of %s (%d tokens)", tally.blocks_looked_up,
                                      FormatBytes(outcome.block.bytes), outcome.block.tokens));
  table.Row("hits",
            absl::StrFormat("%d (%.1f %%): L1 %d, L2 %d, L3 %d", report.blocks_hit,
                            100 * report.hit_rate, tally.hits_l1, tally.hits_l2, tally.hits_l3));
  if (!outcome.block.mix.kv_only()) {
    table.Row("hits by class",
              absl::StrFormat("KV %d, vision %d, text %d", HitsOf(outcome, TensorClass::kKv),
                              HitsOf(outcome, TensorClass::kVision),
                              HitsOf(outcome, TensorClass::kText)));
  }
  table.Row("tokens not recomputed", absl::StrCat(tally.tokens_saved));
  table.Row("time saved", absl::StrFormat("%.1f s at %g prefill tokens/s", report.time_saved_s,
                                          outcome.options.prefill_tokens_per_s));
  table.Row("restored",
            absl::StrFormat("%.2f GB at %.2f GB/s (from L3 alone %.2f GB at %.2f GB/s)",
                            Gigabytes(tally.bytes_restored), report.restore_gbps,
                            Gigabytes(tally.bytes_restored_l3_only), report.restore_l3_gbps));
  table.Row(
      "restore per request",
      absl::StrFormat("p50 %.2f ms, p99 %.2f ms", static_cast<double>(report.restore_us_p50) / 1e3,
                      static_cast<double>(report.restore_us_p99) / 1e3));
  table.Row("stored",
            absl::StrFormat("%.2f GB, at %.2f GB/s of the time the host waited for it; written to "
                            "L3 %.2f GB, %.2f GB/s over the run",
                            Gigabytes(BytesStored(outcome)), report.store_gbps,
                            Gigabytes(outcome.stats.l3.bytes_written),
                            PerSecond(outcome.stats.l3.bytes_written, outcome.wall_s)));
}

void AddWriteBudgetRows(const Outcome& outcome, Table& table) {
  const WriteBudgetStats& budget = outcome.stats.write_budget;
  if (budget.bytes_per_day == 0) return;
  table.Row("write budget",
            absl::StrFormat("%.3f of %.3f GB granted in this run (%.1f GB a day); at this rate the "
                            "drive lives %.1f days",
                            Gigabytes(budget.bytes_written), Gigabytes(budget.bytes_granted),
                            Gigabytes(budget.bytes_per_day), budget.drive_life_days));
  table.Row("written blocks",
            absl::StrFormat("%d promised, %d seen before, %d new", budget.admitted_promised,
                            budget.admitted_second_sight, budget.admitted_first_sight));
  table.Row("kept in L2 alone",
            absl::StrFormat("%d new, %d seen before, %d not full", budget.refused_first_sight,
                            budget.refused_over_budget, budget.refused_partial));
}

void AddPrefetchRow(const Outcome& outcome, Table& table) {
  const StatsSnapshot& stats = outcome.stats;
  if (outcome.options.hints == 0) return;
  table.Row("prefetched",
            absl::StrFormat("%d blocks: %d used, %d late, %d unused; %d cancelled",
                            stats.prefetches, stats.prefetches_used, stats.prefetches_late,
                            stats.prefetches_unused, stats.prefetches_cancelled));
}

void AddPredictionRow(const Outcome& outcome, Table& table) {
  const StatsSnapshot& stats = outcome.stats;
  if (!outcome.options.predict) return;
  table.Row("predicted",
            absl::StrFormat("%d blocks: %d used, %d late, %d unused; accuracy %.3f, coverage %.3f",
                            stats.predictions, stats.predictions_used, stats.predictions_late,
                            stats.predictions_unused, AccuracyOf(stats), CoverageOf(stats)));
}

// Only where memory was short.
void AddPressureRow(const Outcome& outcome, Table& table) {
  const PressureStats& pressure = outcome.stats.pressure;
  if (pressure.l2_bytes_usable == outcome.stats.l2.bytes_max && pressure.times_high == 0) return;
  table.Row("memory pressure",
            absl::StrFormat("%d %% at most, %d times high: L2 gave %s back and took %s, and has %s",
                            pressure.percent_max, pressure.times_high,
                            FormatBytes(pressure.l2_bytes_given_back),
                            FormatBytes(pressure.l2_bytes_taken_back),
                            FormatBytes(pressure.l2_bytes_usable)));
}

void AddTroubleRows(const Outcome& outcome, Table& table) {
  const Tally& tally = outcome.tally;
  if (tally.load_failures > 0) {
    table.Row("failed loads", absl::StrFormat("%d, of which damaged %d: computed anew",
                                              tally.load_failures, tally.data_losses));
  }
  if (tally.puts_refused > 0) {
    table.Row("refused puts", absl::StrFormat("%d for lack of room", tally.puts_refused));
  }
  if (tally.puts_unavailable > 0) {
    table.Row("failed puts", absl::StrFormat("%d: %s", tally.puts_unavailable, tally.unavailable));
  }
  if (!outcome.stats.degraded.empty()) table.Row("degraded", outcome.stats.degraded);
}

// Writes, flushes and closes; 0 or an errno.
int WriteFile(const std::string& path, const std::string& text) {
  const int fd = open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
  if (fd < 0) return errno;
  int error = 0;
  for (size_t written = 0; written < text.size() && error == 0;) {
    const ssize_t count = write(fd, text.data() + written, text.size() - written);
    if (count >= 0) {
      written += static_cast<size_t>(count);
    } else if (errno != EINTR) {
      error = errno;
    }
  }
  if (error == 0 && fsync(fd) != 0) error = errno;
  if (close(fd) != 0 && error == 0) error = errno;
  return error;
}

absl::Status CannotWrite(const std::string& path, int error) {
  return absl::ErrnoToStatus(error, absl::StrCat("cannot write ", path));
}

}  // namespace

Report::Report(const Outcome& outcome) {
  const Tally& tally = outcome.tally;
  blocks_hit = tally.hits_l1 + tally.hits_l2 + tally.hits_l3;
  if (tally.blocks_looked_up > 0) {
    hit_rate = static_cast<double>(blocks_hit) / static_cast<double>(tally.blocks_looked_up);
  }
  restore_us_p50 = Percentile(tally.restore_us, 0.50);
  restore_us_p99 = Percentile(tally.restore_us, 0.99);
  restore_gbps = PerSecond(tally.bytes_restored, UnionSeconds(tally.restores));
  restore_l3_gbps = PerSecond(tally.bytes_restored_l3_only, UnionSeconds(tally.restores_l3_only));
  store_gbps = PerSecond(BytesStored(outcome), UnionSeconds(tally.put_waits) + outcome.flush_s);
  const uint64_t restored_us =
      std::accumulate(tally.restore_us.begin(), tally.restore_us.end(), uint64_t{0});
  time_saved_s = static_cast<double>(tally.tokens_saved) / outcome.options.prefill_tokens_per_s -
                 static_cast<double>(restored_us) / 1e6;
}

std::string ReportJson(const Outcome& outcome) {
  const Report report(outcome);
  const Tally& tally = outcome.tally;
  nlohmann::ordered_json json;
  json["requests"] = tally.requests;
  json["blocks_looked_up"] = tally.blocks_looked_up;
  json["blocks_hit"] = report.blocks_hit;
  json["hits_l1"] = tally.hits_l1;
  json["hits_l2"] = tally.hits_l2;
  json["hits_l3"] = tally.hits_l3;
  json["hit_rate"] = report.hit_rate;
  json["hits_kv"] = HitsOf(outcome, TensorClass::kKv);
  json["hits_vision"] = HitsOf(outcome, TensorClass::kVision);
  json["hits_text"] = HitsOf(outcome, TensorClass::kText);
  json["evictions_l1"] = outcome.stats.l1.evictions;
  json["tokens_saved"] = tally.tokens_saved;
  json["bytes_restored"] = tally.bytes_restored;
  json["bytes_written_l3"] = outcome.stats.l3.bytes_written;
  json["prefetches"] = {{"taken", outcome.stats.prefetches},
                        {"used", outcome.stats.prefetches_used},
                        {"late", outcome.stats.prefetches_late},
                        {"unused", outcome.stats.prefetches_unused},
                        {"cancelled", outcome.stats.prefetches_cancelled},
                        {"dropped", outcome.stats.prefetches_dropped}};
  json["predictions"] = PredictionsJson(outcome.stats);
  const nlohmann::ordered_json stats = nlohmann::ordered_json::parse(outcome.stats.ToJson());
  json["tiers"] = {{"l1", stats["l1"]}, {"l2", stats["l2"]}, {"l3", stats["l3"]}};
  json["gpus"] = stats["gpus"];
  json["write_budget"] = stats["write_budget"];
  json["pressure"] = stats["pressure"];
  json["drives"] = stats["drives"];
  json["bytes_compared"] = tally.bytes_compared;
  json["mismatches"] = tally.mismatches;
  json["restore_us_p50"] = report.restore_us_p50;
  json["restore_us_p99"] = report.restore_us_p99;
  json["wall_s"] = outcome.wall_s;
  json["restore_gbps"] = report.restore_gbps;
  json["store_gbps"] = report.store_gbps;
  json["warm_start_blocks"] = outcome.warm_start_blocks;
  json["restore_l3_gbps"] = report.restore_l3_gbps;
  json["time_saved_s"] = report.time_saved_s;
  json["load_failures"] = tally.load_failures;
  json["data_losses"] = tally.data_losses;
  json["puts"] = tally.puts;
  json["puts_refused"] = tally.puts_refused;
  json["puts_unavailable"] = tally.puts_unavailable;
  json["device"] = outcome.stats.device;
  json["io_engine"] = outcome.stats.io_engine;
  json["io_submissions_polled"] = outcome.stats.io_submissions_polled;
  json["io_completions_polled"] = outcome.stats.io_completions_polled;
  json["io_polling_refusal"] = outcome.stats.io_polling_refusal;
  json["degraded"] = outcome.stats.degraded;
  json["interrupted"] = outcome.interrupted;
  json["config"] = ConfigJson(outcome);
  // File names need not be UTF-8.
  return json.dump(2, ' ', false, nlohmann::ordered_json::error_handler_t::replace) + "\n";
}

std::string ReportTable(const Outcome& outcome) {
  const Report report(outcome);
  Table table;
  table.Row("trace", SourceOf(outcome));
  AddTrafficRows(outcome, report, table);
  AddPrefetchRow(outcome, table);
  AddPredictionRow(outcome, table);
  AddWriteBudgetRows(outcome, table);
  AddPressureRow(outcome, table);
  table.Row("warm start", absl::StrFormat("%d blocks", outcome.warm_start_blocks));
  if (outcome.options.l1_bytes > 0) table.Row("L1", DeviceOf(outcome));
  table.Row("engine", EngineOf(outcome.stats));
  AddTroubleRows(outcome, table);
  table.Row("compared", absl::StrFormat("%d bytes, mismatches: %d", outcome.tally.bytes_compared,
                                        outcome.tally.mismatches));
  return table.text();
}

absl::Status WriteAtomically(const std::string& path, const std::string& text) {
  const std::string beside = absl::StrCat(path, ".", getpid(), ".tmp");
  int error = WriteFile(beside, text);
  if (error == 0 && rename(beside.c_str(), path.c_str()) != 0) error = errno;
  if (error == 0) return absl::OkStatus();
  unlink(beside.c_str());
  return CannotWrite(path, error);
}

absl::Status CheckWritable(const std::string& path) {
  struct stat file = {};
  if (stat(path.c_str(), &file) == 0 && S_ISDIR(file.st_mode)) return CannotWrite(path, EISDIR);
  const std::filesystem::path directory = std::filesystem::path(path).parent_path();
  if (access(directory.empty() ? "." : directory.c_str(), W_OK) != 0)
    return CannotWrite(path, errno);
  return absl::OkStatus();
}

}  // namespace cairn::offload
