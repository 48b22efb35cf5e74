#include "cairn/stats.h"

#include <algorithm>
#include <memory>
#include <nlohmann/json.hpp>
#include <utility>

#include "io/async_io.h"
#include "src/base/strings.h"
#include "src/store_impl.h"

namespace cairn {
namespace {

nlohmann::ordered_json ToJsonObject(const std::array<ClassStats, kTensorClasses>& classes) {
  nlohmann::ordered_json json;
  for (size_t i = 0; i < kTensorClasses; ++i) {
    json[TensorClassName(static_cast<TensorClass>(i))] = {{"bytes", classes[i].bytes},
                                                          {"tensors", classes[i].tensors},
                                                          {"hits", classes[i].hits},
                                                          {"evictions", classes[i].evictions}};
  }
  return json;
}

nlohmann::ordered_json ToJsonObject(const TierStats& tier) {
  return {{"bytes_max", tier.bytes_max},
          {"bytes_used", tier.bytes_used},
          {"tensors", tier.tensors},
          {"hits", tier.hits},
          {"evictions", tier.evictions},
          {"bytes_read", tier.bytes_read},
          {"bytes_written", tier.bytes_written},
          {"bytes_free_longest", tier.bytes_free_longest},
          {"free_share_scattered", tier.free_share_scattered},
          {"free_share_unusable", tier.free_share_unusable},
          {"windows_emptied", tier.windows_emptied},
          {"bytes_emptied", tier.bytes_emptied},
          {"bytes_moved", tier.bytes_moved},
          {"classes", ToJsonObject(tier.classes)}};
}

nlohmann::ordered_json ToJsonObject(const LatencySummary& latency) {
  return {{"count", latency.count},
          {"p50_us", latency.p50_us},
          {"p99_us", latency.p99_us},
          {"max_us", latency.max_us}};
}

nlohmann::ordered_json ToJsonArray(const std::vector<GpuStats>& gpus) {
  nlohmann::ordered_json array = nlohmann::ordered_json::array();
  for (const GpuStats& gpu : gpus) {
    array.push_back(
        {{"ordinal", gpu.ordinal}, {"device", gpu.device}, {"l1", ToJsonObject(gpu.l1)}});
  }
  return array;
}

nlohmann::ordered_json ToJsonArray(const std::vector<DriveStats>& drives) {
  nlohmann::ordered_json array = nlohmann::ordered_json::array();
  for (const DriveStats& drive : drives) {
    array.push_back({{"path", drive.path},
                     {"weight", drive.weight},
                     {"bytes_max", drive.bytes_max},
                     {"bytes_used", drive.bytes_used},
                     {"requests", drive.requests},
                     {"errors", drive.errors},
                     {"service_us_mean", drive.service_us_mean},
                     {"drained", drive.drained}});
  }
  return array;
}

nlohmann::ordered_json ToJsonObject(const WriteBudgetStats& budget) {
  return {{"bytes_per_day", budget.bytes_per_day},
          {"bytes_granted", budget.bytes_granted},
          {"bytes_written", budget.bytes_written},
          {"bytes_in_hand", budget.bytes_in_hand},
          {"drive_life_days", budget.drive_life_days},
          {"admitted_promised", budget.admitted_promised},
          {"admitted_second_sight", budget.admitted_second_sight},
          {"admitted_first_sight", budget.admitted_first_sight},
          {"refused_partial", budget.refused_partial},
          {"refused_first_sight", budget.refused_first_sight},
          {"refused_over_budget", budget.refused_over_budget}};
}

nlohmann::ordered_json ToJsonObject(const std::array<uint64_t, kDecisions>& decisions) {
  nlohmann::ordered_json object = nlohmann::ordered_json::object();
  for (size_t i = 0; i < kDecisions; ++i) {
    object[DecisionName(static_cast<Decision>(i))] = decisions[i];
  }
  return object;
}

nlohmann::ordered_json ToJsonObject(const PressureStats& pressure) {
  return {{"level", PressureLevelName(pressure.level)},
          {"percent", pressure.percent},
          {"percent_max", pressure.percent_max},
          {"host_bytes", pressure.host_bytes},
          {"host_bytes_free", pressure.host_bytes_free},
          {"group_bytes", pressure.group_bytes},
          {"group_bytes_free", pressure.group_bytes_free},
          {"stall_percent", pressure.stall_percent},
          {"stall_percent_host", pressure.stall_percent_host},
          {"gpu_level", PressureLevelName(pressure.gpu_level)},
          {"gpu_bytes", pressure.gpu_bytes},
          {"gpu_bytes_free", pressure.gpu_bytes_free},
          {"readings", pressure.readings},
          {"times_medium", pressure.times_medium},
          {"times_high", pressure.times_high},
          {"l2_bytes_usable", pressure.l2_bytes_usable},
          {"l2_bytes_given_back", pressure.l2_bytes_given_back},
          {"l2_bytes_taken_back", pressure.l2_bytes_taken_back},
          {"l2_evictions", pressure.l2_evictions},
          {"prefetches_refused", pressure.prefetches_refused},
          {"l2_kept_because", pressure.l2_kept_because}};
}

// And what the tier has and had of all classes together.
void ReadClasses(const ClassCounts& counts, TierStats& tier) {
  for (size_t i = 0; i < kTensorClasses; ++i) {
    const auto tensor_class = static_cast<TensorClass>(i);
    ClassStats& of_class = tier.classes[i];
    of_class.bytes = counts.bytes(tensor_class);
    of_class.tensors = counts.tensors(tensor_class);
    of_class.evictions = counts.evictions(tensor_class);
    tier.tensors += of_class.tensors;
    tier.evictions += of_class.evictions;
  }
}

void WriteFragmentation(const Fragmentation& fragmentation, TierStats& tier) {
  tier.bytes_free_longest = fragmentation.bytes_free_longest;
  tier.free_share_scattered = fragmentation.scattered_share();
  tier.free_share_unusable = fragmentation.unusable_share;
}

void WriteDefragmenter(const Defragmenter& defragmenter, TierStats& tier) {
  const Defragmenter::Figures figures = defragmenter.figures();
  tier.windows_emptied = figures.windows;
  tier.bytes_emptied = figures.bytes_freed;
  tier.bytes_moved = figures.bytes_moved;
}

void ReadGpu(const Gpu& gpu, GpuStats& s) {
  s.ordinal = gpu.ordinal();
  s.device = gpu.device->name();
  s.l1.bytes_max = gpu.l1->bytes_max();
  s.l1.bytes_used = gpu.l1->bytes_used();
  gpu.stats.Read(s.l1);
  WriteFragmentation(gpu.l1->fragmentation(), s.l1);
  WriteDefragmenter(*gpu.defragmenter, s.l1);
}

// Of one GPU to those of all: the shares weigh as much as the free bytes that they are of.
void AddUp(const TierStats& one, TierStats& sum) {
  const auto free = static_cast<double>(one.bytes_max - std::min(one.bytes_used, one.bytes_max));
  const auto free_before =
      static_cast<double>(sum.bytes_max - std::min(sum.bytes_used, sum.bytes_max));
  const double weight = free + free_before > 0 ? free / (free + free_before) : 0;
  sum.free_share_scattered += weight * (one.free_share_scattered - sum.free_share_scattered);
  sum.free_share_unusable += weight * (one.free_share_unusable - sum.free_share_unusable);
  sum.bytes_free_longest = std::max(sum.bytes_free_longest, one.bytes_free_longest);
  sum.bytes_max += one.bytes_max;
  sum.bytes_used += one.bytes_used;
  sum.tensors += one.tensors;
  sum.hits += one.hits;
  sum.evictions += one.evictions;
  sum.bytes_read += one.bytes_read;
  sum.bytes_written += one.bytes_written;
  sum.windows_emptied += one.windows_emptied;
  sum.bytes_emptied += one.bytes_emptied;
  sum.bytes_moved += one.bytes_moved;
  for (size_t i = 0; i < kTensorClasses; ++i) sum.classes[i].hits += one.classes[i].hits;
}

void ReadReads(ReadRate& reads, StatsSnapshot& s) {
  s.l3_read_bytes_per_second = reads.bytes_per_second(SteadyNow());
  s.l3_read_latency_us = static_cast<uint64_t>(reads.latency_us());
  s.l3_read_bytes_under_way = reads.bytes_under_way();
}

void ReadPrefetches(const PrefetchQueue& prefetches, StatsSnapshot& s) {
  const PrefetchQueue::Figures figures = prefetches.figures();
  s.prefetches_waiting = figures.waiting;
  s.prefetches_cancelled = figures.cancelled;
  s.prefetches_used = figures.used;
  s.prefetches_late = figures.late;
  s.prefetches_unused = figures.unused;
}

void ReadPredictions(const PrefetchQueue& predictions, StatsSnapshot& s) {
  const PrefetchQueue::Figures figures = predictions.figures();
  s.predictions_cancelled = figures.cancelled;
  s.predictions_used = figures.used;
  s.predictions_late = figures.late;
  s.predictions_unused = figures.unused;
}

}  // namespace

const char* PressureLevelName(PressureLevel level) {
  switch (level) {
    case PressureLevel::kLow:
      return "low";
    case PressureLevel::kMedium:
      return "medium";
    case PressureLevel::kHigh:
      return "high";
  }
  return "?";
}

std::string StatsSnapshot::ToJson() const {
  const nlohmann::ordered_json json = {{"l1", ToJsonObject(l1)},
                                       {"l2", ToJsonObject(l2)},
                                       {"l3", ToJsonObject(l3)},
                                       {"gpus", ToJsonArray(gpus)},
                                       {"puts", puts},
                                       {"puts_kept_existing", puts_kept_existing},
                                       {"puts_refused", puts_refused},
                                       {"gets", gets},
                                       {"misses", misses},
                                       {"gets_failed", gets_failed},
                                       {"erases", erases},
                                       {"expirations", expirations},
                                       {"fills", fills},
                                       {"fills_joined", fills_joined},
                                       {"lifts", lifts},
                                       {"lift_failures", lift_failures},
                                       {"spills", spills},
                                       {"spill_failures", spill_failures},
                                       {"dirty_bytes", dirty_bytes},
                                       {"prefetches", prefetches},
                                       {"prefetches_dropped", prefetches_dropped},
                                       {"prefetches_waiting", prefetches_waiting},
                                       {"prefetches_cancelled", prefetches_cancelled},
                                       {"prefetches_used", prefetches_used},
                                       {"prefetches_late", prefetches_late},
                                       {"prefetches_unused", prefetches_unused},
                                       {"predictions", predictions},
                                       {"predictions_cancelled", predictions_cancelled},
                                       {"predictions_used", predictions_used},
                                       {"predictions_late", predictions_late},
                                       {"predictions_unused", predictions_unused},
                                       {"checksum_failures", checksum_failures},
                                       {"read_errors", read_errors},
                                       {"write_errors", write_errors},
                                       {"write_retries", write_retries},
                                       {"l3_read_bytes_per_second", l3_read_bytes_per_second},
                                       {"l3_read_latency_us", l3_read_latency_us},
                                       {"l3_read_bytes_under_way", l3_read_bytes_under_way},
                                       {"l3_bytes_quarantined", l3_bytes_quarantined},
                                       {"quarantined", quarantined},
                                       {"data_files_given_up", data_files_given_up},
                                       {"drives", ToJsonArray(drives)},
                                       {"recovered_tensors", recovered_tensors},
                                       {"recovery_dropped", recovery_dropped},
                                       {"decisions", ToJsonObject(decisions)},
                                       {"write_budget", ToJsonObject(write_budget)},
                                       {"pressure", ToJsonObject(pressure)},
                                       {"device_bytes_written", device_bytes_written},
                                       {"io_retries", io_retries},
                                       {"index_commits", index_commits},
                                       {"device_flushes", device_flushes},
                                       {"get_l1_us", ToJsonObject(get_l1_us)},
                                       {"get_l2_us", ToJsonObject(get_l2_us)},
                                       {"get_l3_us", ToJsonObject(get_l3_us)},
                                       {"put_us", ToJsonObject(put_us)},
                                       {"io_engine", io_engine},
                                       {"device", device},
                                       {"l2_pages", l2_pages},
                                       {"l2_numa_placement", l2_numa_placement},
                                       {"l2_bytes_pinned", l2_bytes_pinned},
                                       {"l2_pin_refusal", l2_pin_refusal},
                                       {"io_submissions_polled", io_submissions_polled},
                                       {"io_completions_polled", io_completions_polled},
                                       {"io_polling_refusal", io_polling_refusal},
                                       {"io_polling_refusals", io_polling_refusals},
                                       {"io_registered", io_registered},
                                       {"io_direct", io_direct},
                                       {"degraded", degraded}};
  return json.dump(2, ' ', /*ensure_ascii=*/false, nlohmann::json::error_handler_t::replace);
}

StatsSnapshot StoreImpl::Stats() const {
  const CallScope scope(this);
  StatsSnapshot s;
  if (core_->pressure != nullptr) s.pressure = core_->pressure->Stats();
  for (const std::unique_ptr<Gpu>& gpu : core_->gpus) {
    if (gpu->l1 == nullptr) continue;
    ReadGpu(*gpu, s.gpus.emplace_back());
    AddUp(s.gpus.back().l1, s.l1);
  }
  core_->stats.ReadCounters(s);
  core_->stats.ReadLatencies(s);
  ReadPrefetches(*core_->prefetches, s);
  ReadPredictions(*core_->predictions, s);
  ReadReads(core_->l3->reads(), s);
  s.data_files_given_up = core_->flusher->given_up_count();
  s.drives = core_->drive_health->Stats();
  s.l3_bytes_quarantined = core_->l3->bytes_quarantined();
  s.dirty_bytes = core_->directory->dirty_bytes();
  s.quarantined = core_->directory->quarantined_count();
  s.recovered_tensors = core_->recovered_tensors;
  s.recovery_dropped = core_->recovery_dropped;
  s.device = core_->gpus.front()->device->name();
  s.l2_pages = ArenaPagesName(core_->l2->arena().pages());
  s.l2_numa_placement = core_->l2_numa_placement;
  s.l2_bytes_pinned = core_->l2->bytes_pinned();
  s.l2_pin_refusal = ToStd(core_->l2->pin_status().message());
  s.l2.bytes_max = core_->l2->bytes_max();
  s.l2.bytes_used = core_->l2->bytes_used();
  s.l3.bytes_max = core_->l3->bytes_max();
  s.l3.bytes_used = core_->l3->bytes_used();
  ReadClasses(core_->directory->l2_counts(), s.l2);
  ReadClasses(core_->directory->l3_counts(), s.l3);
  WriteFragmentation(core_->l2->fragmentation(), s.l2);
  WriteDefragmenter(*core_->l2_defragmenter, s.l2);
  WriteDefragmenter(*core_->l3_defragmenter, s.l3);
  WriteFragmentation(core_->l3->fragmentation(), s.l3);
  s.decisions = core_->journal->counts();
  s.write_budget = core_->admission->Stats();
  s.pressure.l2_bytes_usable = core_->l2_sections->bytes_usable();
  s.degraded = core_->Degraded();
  // What only an open store has.
  if (!scope.status().ok()) return s;
  const IoStats io = core_->io->stats();
  s.device_bytes_written = io.bytes_written;
  s.io_retries = io.retries;
  s.index_commits = core_->index_writer->commits();
  s.device_flushes = core_->index_writer->flushes();
  s.io_engine = core_->io->name();
  IoPolling polling = core_->io->polling();
  s.io_submissions_polled = polling.submissions;
  s.io_completions_polled = polling.completions;
  s.io_polling_refusal = std::move(polling.refusal);
  s.io_polling_refusals = io.polling_refusals;
  s.io_registered = core_->l2_sections->registered();
  s.io_direct = core_->files->direct();
  return s;
}

}  // namespace cairn
