#include "cairn/stats.h"

#include <nlohmann/json.hpp>

#include "io/async_io.h"
#include "src/store_impl.h"

namespace cairn {
namespace {

nlohmann::ordered_json ToJsonObject(const TierStats& tier) {
  return {{"bytes_max", tier.bytes_max},
          {"bytes_used", tier.bytes_used},
          {"tensors", tier.tensors},
          {"hits", tier.hits},
          {"evictions", tier.evictions},
          {"bytes_read", tier.bytes_read},
          {"bytes_written", tier.bytes_written}};
}

nlohmann::ordered_json ToJsonObject(const LatencySummary& latency) {
  return {{"count", latency.count},
          {"p50_us", latency.p50_us},
          {"p99_us", latency.p99_us},
          {"max_us", latency.max_us}};
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

uint64_t Read(const StatsRecorder::Counter& counter) {
  return counter.load(std::memory_order_relaxed);
}

void ReadVerbs(const StatsRecorder& stats, StatsSnapshot& s) {
  s.puts = Read(stats.puts);
  s.puts_kept_existing = Read(stats.puts_kept_existing);
  s.puts_refused = Read(stats.puts_refused);
  s.gets = Read(stats.gets);
  s.misses = Read(stats.misses);
  s.erases = Read(stats.erases);
  s.expirations = Read(stats.expirations);
  s.fills = Read(stats.fills);
  s.fills_joined = Read(stats.fills_joined);
  s.lifts = Read(stats.lifts);
  s.lift_failures = Read(stats.lift_failures);
  s.spills = Read(stats.spills);
  s.spill_failures = Read(stats.spill_failures);
  s.prefetches = Read(stats.prefetches);
  s.prefetches_dropped = Read(stats.prefetches_dropped);
  s.checksum_failures = Read(stats.checksum_failures);
  s.read_errors = Read(stats.read_errors);
  s.write_errors = Read(stats.write_errors);
  s.write_retries = Read(stats.write_retries);
  s.get_l1_us = stats.get_l1_us.Summary();
  s.get_l2_us = stats.get_l2_us.Summary();
  s.get_l3_us = stats.get_l3_us.Summary();
  s.put_us = stats.put_us.Summary();
}

void ReadPrefetches(const PrefetchQueue& prefetches, StatsSnapshot& s) {
  const PrefetchQueue::Figures figures = prefetches.figures();
  s.prefetches_waiting = figures.waiting;
  s.prefetches_cancelled = figures.cancelled;
  s.prefetches_used = figures.used;
  s.prefetches_late = figures.late;
  s.prefetches_unused = figures.unused;
}

}  // namespace

std::string StatsSnapshot::ToJson() const {
  const nlohmann::ordered_json json = {{"l1", ToJsonObject(l1)},
                                       {"l2", ToJsonObject(l2)},
                                       {"l3", ToJsonObject(l3)},
                                       {"puts", puts},
                                       {"puts_kept_existing", puts_kept_existing},
                                       {"puts_refused", puts_refused},
                                       {"gets", gets},
                                       {"misses", misses},
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
                                       {"checksum_failures", checksum_failures},
                                       {"read_errors", read_errors},
                                       {"write_errors", write_errors},
                                       {"write_retries", write_retries},
                                       {"l3_bytes_quarantined", l3_bytes_quarantined},
                                       {"quarantined", quarantined},
                                       {"data_files_given_up", data_files_given_up},
                                       {"recovered_tensors", recovered_tensors},
                                       {"recovery_dropped", recovery_dropped},
                                       {"write_budget", ToJsonObject(write_budget)},
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
                                       {"io_registered", io_registered},
                                       {"io_direct", io_direct},
                                       {"degraded", degraded}};
  return json.dump(2, ' ', /*ensure_ascii=*/false, nlohmann::json::error_handler_t::replace);
}

StatsSnapshot StoreImpl::Stats() const {
  const CallScope scope(this);
  const StatsRecorder& stats = core_->stats;
  StatsSnapshot s;
  ReadVerbs(stats, s);
  ReadPrefetches(*core_->prefetches, s);
  s.data_files_given_up = core_->flusher->given_up_count();
  s.l3_bytes_quarantined = core_->l3->bytes_quarantined();
  s.dirty_bytes = core_->directory->dirty_bytes();
  s.quarantined = core_->directory->quarantined_count();
  s.recovered_tensors = core_->recovered_tensors;
  s.recovery_dropped = core_->recovery_dropped;
  s.device = core_->device->name();
  s.l2_pages = ArenaPagesName(core_->l2->arena().pages());
  if (const GpuTier* const l1 = core_->l1.get()) {
    s.l1 = {.bytes_max = l1->bytes_max(),
            .bytes_used = l1->bytes_used(),
            .tensors = core_->directory->l1_count(),
            .hits = Read(stats.hits_l1),
            .evictions = Read(stats.evictions_l1),
            .bytes_read = Read(stats.bytes_read_l1),
            .bytes_written = Read(stats.bytes_written_l1)};
  }
  s.l2 = {.bytes_max = core_->l2->bytes_max(),
          .bytes_used = core_->l2->bytes_used(),
          .tensors = core_->directory->l2_count(),
          .hits = Read(stats.hits_l2),
          .evictions = Read(stats.evictions_l2),
          .bytes_read = Read(stats.bytes_read_l2),
          .bytes_written = Read(stats.bytes_written_l2)};
  s.l3 = {.bytes_max = core_->l3->bytes_max(),
          .bytes_used = core_->l3->bytes_used(),
          .tensors = core_->directory->l3_count(),
          .hits = Read(stats.hits_l3),
          .evictions = Read(stats.evictions_l3),
          .bytes_read = Read(stats.bytes_read_l3),
          .bytes_written = Read(stats.bytes_written_l3)};
  s.write_budget = core_->admission->Stats();
  s.degraded = core_->Degraded();
  // What only an open store has.
  if (!scope.status().ok()) return s;
  const IoStats io = core_->io->stats();
  s.device_bytes_written = io.bytes_written;
  s.io_retries = io.retries;
  s.index_commits = core_->index_writer->commits();
  s.device_flushes = core_->index_writer->flushes();
  s.io_engine = core_->io->name();
  s.io_registered = core_->l2_registered;
  s.io_direct = core_->files->direct();
  return s;
}

}  // namespace cairn
