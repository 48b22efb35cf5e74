#include "src/stats_recorder.h"

namespace cairn {
namespace {

using Counter = StatsRecorder::Counter;

uint64_t Load(const Counter& counter) { return counter.load(std::memory_order_acquire); }

void ReadHits(const std::array<Counter, kTensorClasses>& hits, TierStats& tier) {
  tier.hits = 0;
  for (size_t i = 0; i < kTensorClasses; ++i) {
    tier.classes[i].hits = Load(hits[i]);
    tier.hits += tier.classes[i].hits;
  }
}

}  // namespace

void L1Recorder::Read(TierStats& tier) const {
  ReadHits(hits, tier);
  tier.bytes_read = Load(bytes_read);
  tier.bytes_written = Load(bytes_written);
  tier.tensors = Load(tensors);
  tier.evictions = Load(evictions);
}

void StatsRecorder::CountHitInL1(L1Recorder& l1, TensorClass tensor_class, uint64_t bytes,
                                 uint64_t us) {
  Add(l1.hits[static_cast<size_t>(tensor_class)]);
  Add(l1.bytes_read, bytes);
  get_l1_us.Record(us);
}

void StatsRecorder::CountHit(Level found_below_l1, TensorClass tensor_class, uint64_t bytes,
                             uint64_t us) {
  const auto number = static_cast<size_t>(tensor_class);
  if (found_below_l1 == Level::kL2Pinned) {
    Add(hits_l2[number]);
    Add(bytes_read_l2, bytes);
    get_l2_us.Record(us);
  } else {
    Add(hits_l3[number]);
    get_l3_us.Record(us);
  }
}

void StatsRecorder::CountUnserved(const absl::Status& why) {
  Add(absl::IsNotFound(why) ? misses : gets_failed);
}

void StatsRecorder::ReadCounters(StatsSnapshot& s) const {
  ReadHits(hits_l2, s.l2);
  ReadHits(hits_l3, s.l3);
  s.misses = Load(misses);
  s.gets_failed = Load(gets_failed);
  s.gets = s.l1.hits + s.l2.hits + s.l3.hits + s.misses + s.gets_failed;
  s.l2.bytes_read = Load(bytes_read_l2);
  s.l3.bytes_read = Load(bytes_read_l3);
  s.l2.bytes_written = Load(bytes_written_l2);
  s.l3.bytes_written = Load(bytes_written_l3);
  s.erases = Load(erases);
  s.expirations = Load(expirations);
  s.fills = Load(fills);
  s.fills_joined = Load(fills_joined);
  s.spills = Load(spills);
  s.spill_failures = Load(spill_failures);
  s.prefetches = Load(prefetches);
  s.predictions = Load(predictions);
  s.checksum_failures = Load(checksum_failures);
  s.read_errors = Load(read_errors);
  // Parts before their wholes.
  s.puts_kept_existing = Load(puts_kept_existing);
  s.puts_refused = Load(puts_refused);
  s.puts = Load(puts);
  s.lift_failures = Load(lift_failures);
  s.lifts = Load(lifts);
  s.pressure.prefetches_refused = Load(prefetches_refused);
  s.prefetches_dropped = Load(prefetches_dropped);
  s.write_retries = Load(write_retries);
  s.write_errors = Load(write_errors);
}

void StatsRecorder::ReadLatencies(StatsSnapshot& s) const {
  s.get_l1_us = get_l1_us.Summary();
  s.get_l2_us = get_l2_us.Summary();
  s.get_l3_us = get_l3_us.Summary();
  s.put_us = put_us.Summary();
}

}  // namespace cairn
