// kv-offload: plays a model host over a Cairn store. It replays the requests of a trace, restores
// what the store has of each prompt and compares every byte, computes the rest and stores it, and
// ends with the figures. Its --help says what they mean.

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <memory>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "cairn/store.h"
#include "src/base/status_macros.h"
#include "tools/offload/block_plan.h"
#include "tools/offload/interrupt.h"
#include "tools/offload/options.h"
#include "tools/offload/progress.h"
#include "tools/offload/replay.h"
#include "tools/offload/report.h"
#include "tools/offload/trace.h"
#include "tools/offload/workload.h"

namespace cairn::offload {
namespace {

constexpr int kExitMismatch = 1;
constexpr int kExitError = 2;

absl::StatusOr<Trace> LoadTrace(const Options& options) {
  if (!options.trace.empty()) return ReadTrace(options.trace, options.requests);
  return GenerateWorkload({.seed = options.seed,
                           .requests = options.requests,
                           .block_tokens = options.block_tokens != 0
                                               ? options.block_tokens
                                               : DefaultBlockTokens(TraceFormat::kGenerated)});
}

StoreOptions StoreOptionsOf(const Options& options, const BlockPlan& block, Progress& progress) {
  StoreOptions store;
  store.path = options.dir;
  store.data_paths = options.data_dirs;
  store.data_weights = options.data_weights;
  store.fingerprint = block.fingerprint;
  store.device = options.device;
  store.l1_memory = options.l1_memory;
  store.l1_bytes_max = options.l1_bytes;
  store.gpus = options.gpus;
  store.l2_bytes_max = options.l2_bytes;
  store.l2_bytes_min = options.l2_bytes_min;
  store.heed_memory_pressure = options.heed_memory_pressure;
  store.l2_allocator = options.l2_allocator;
  store.l2_class_shares = options.l2_class_shares;
  store.l3_class_shares = options.l3_class_shares;
  store.l3_bytes_max = options.l3_bytes;
  store.l3_prewrite = options.l3_prewrite;
  store.l3_write_bytes_per_day = options.l3_write_bytes_per_day;
  store.eviction = options.eviction;
  store.prefetch_predicted = options.predict;
  store.write_policy = options.write_policy;
  store.io_engine = options.io_engine;
  store.io_submission_polling = options.io_submission_polling;
  store.io_completion_polling = options.io_completion_polling;
  store.log = [&progress](std::string_view line) { progress.Line(line); };
  return store;
}

void SayHowTheTraceIs(const Trace& trace, Progress& progress) {
  if (trace.timestamps_backwards == 0) return;
  progress.Line(absl::StrCat("note: ", trace.timestamps_backwards,
                             " requests begin before the one in front of them; the order of the "
                             "file is kept"));
}

// Replays, and flushes where there is no write budget. Its status is not OK when the run broke off
// or not all is on disk.
absl::Status Serve(Store& store, const Trace& trace, Progress& progress, Outcome& outcome) {
  using Clock = std::chrono::steady_clock;
  const Clock::time_point begin = Clock::now();
  ReplayResult result = Replay(store, trace.requests,
                               {.block = outcome.block,
                                .l1_bytes = outcome.options.l1_bytes,
                                .gpus = outcome.options.gpus,
                                .l2_bytes = outcome.options.l2_bytes,
                                .speed = outcome.options.speed,
                                .concurrency = outcome.options.concurrency,
                                .hints = outcome.options.hints,
                                .window = outcome.options.window,
                                .prefill_tokens_per_s = outcome.options.prefill_tokens_per_s,
                                .decode_tokens_per_s = outcome.options.decode_tokens_per_s},
                               progress, Interrupted);
  progress.End();
  outcome.tally = std::move(result.tally);
  outcome.interrupted = outcome.tally.requests < trace.requests.size() && Interrupted();
  if (outcome.interrupted) progress.Line("interrupted: flushing");

  const Clock::time_point flush_begin = Clock::now();
  // A flush would promise to write what the budget refused.
  const bool budgeted = outcome.options.l3_write_bytes_per_day != StoreOptions::kL3WritesUnlimited;
  const absl::Status flushed = budgeted ? absl::OkStatus() : store.Flush();
  const Clock::time_point end = Clock::now();
  outcome.flush_s = std::chrono::duration<double>(end - flush_begin).count();
  outcome.wall_s = std::chrono::duration<double>(end - begin).count();
  outcome.stats = store.Stats();
  CAIRN_RETURN_IF_ERROR(result.status);
  const absl::Status closed = store.Close();
  const absl::Status& ended = flushed.ok() ? closed : flushed;
  // A drive that was drained cannot be flushed either: the report names it, the rest went on.
  const bool drained = std::any_of(outcome.stats.drives.begin(), outcome.stats.drives.end(),
                                   [](const DriveStats& drive) { return !drive.drained.empty(); });
  return drained && absl::IsUnavailable(ended) ? absl::OkStatus() : ended;
}

absl::Status RunAndReport(const Options& options, Outcome& outcome, const Trace& trace) {
  Progress progress(trace.requests.size());
  SayHowTheTraceIs(trace, progress);
  CAIRN_ASSIGN_OR_RETURN(const std::unique_ptr<Store> store,
                         Store::Open(StoreOptionsOf(options, outcome.block, progress)));
  outcome.warm_start_blocks = store->Stats().recovered_tensors;
  if (outcome.warm_start_blocks > 0) {
    progress.Line(absl::StrCat("warm start: ", outcome.warm_start_blocks, " blocks found"));
  }
  CatchInterrupts();
  absl::Status served = Serve(*store, trace, progress, outcome);
  std::fputs(ReportTable(outcome).c_str(), stdout);
  std::fflush(stdout);
  if (!options.json.empty()) {
    absl::Status written = WriteAtomically(options.json, ReportJson(outcome));
    if (served.ok()) return written;
  }
  return served;
}

absl::StatusOr<int> Main(const Options& options) {
  // All that the input can have wrong is said before anything is stored.
  CAIRN_ASSIGN_OR_RETURN(const Trace trace, LoadTrace(options));
  CAIRN_ASSIGN_OR_RETURN(const BlockPlan block, PlanBlocks(options, trace.format));
  if (!options.json.empty()) CAIRN_RETURN_IF_ERROR(CheckWritable(options.json));
  Outcome outcome = {.options = options, .block = block, .format = trace.format};
  CAIRN_RETURN_IF_ERROR(RunAndReport(options, outcome, trace));
  return outcome.tally.mismatches > 0 ? kExitMismatch : 0;
}

}  // namespace
}  // namespace cairn::offload

int main(int argc, char** argv) {
  const cairn::offload::ParseResult parsed = cairn::offload::ParseOptions(argc, argv);
  if (!parsed.options.has_value()) return parsed.exit_code;
  const absl::StatusOr<int> exit_code = cairn::offload::Main(*parsed.options);
  if (exit_code.ok()) return *exit_code;
  std::fputs(absl::StrCat("kv-offload: ", exit_code.status().message(), "\n").c_str(), stderr);
  return cairn::offload::kExitError;
}
