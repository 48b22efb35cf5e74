#include "tools/offload/tally.h"

#include <algorithm>
#include <cmath>

namespace cairn::offload {
namespace {

template <typename T>
void Append(std::vector<T>& target, const std::vector<T>& source) {
  target.insert(target.end(), source.begin(), source.end());
}

}  // namespace

double UnionSeconds(std::vector<Interval> intervals) {
  std::sort(intervals.begin(), intervals.end(),
            [](const Interval& a, const Interval& b) { return a.begin < b.begin; });
  std::chrono::duration<double> sum{0};
  Interval::Clock::time_point covered_until = Interval::Clock::time_point::min();
  for (const Interval& interval : intervals) {
    const auto begin = std::max(interval.begin, covered_until);
    if (interval.end > begin) sum += interval.end - begin;
    covered_until = std::max(covered_until, interval.end);
  }
  return sum.count();
}

uint64_t Percentile(std::vector<uint64_t> values, double share) {
  if (values.empty()) return 0;
  const double rank = std::ceil(share * static_cast<double>(values.size()));
  const size_t index = std::min(values.size(), std::max<size_t>(1, static_cast<size_t>(rank))) - 1;
  const auto place = values.begin() + static_cast<std::ptrdiff_t>(index);
  std::nth_element(values.begin(), place, values.end());
  return *place;
}

void Tally::Add(const Tally& other) {
  requests += other.requests;
  blocks_looked_up += other.blocks_looked_up;
  hits_l1 += other.hits_l1;
  hits_l2 += other.hits_l2;
  hits_l3 += other.hits_l3;
  for (size_t i = 0; i < hits_by_class.size(); ++i) hits_by_class[i] += other.hits_by_class[i];
  tokens_saved += other.tokens_saved;
  bytes_restored += other.bytes_restored;
  bytes_restored_l3_only += other.bytes_restored_l3_only;
  bytes_compared += other.bytes_compared;
  mismatches += other.mismatches;
  load_failures += other.load_failures;
  data_losses += other.data_losses;
  puts += other.puts;
  puts_refused += other.puts_refused;
  puts_unavailable += other.puts_unavailable;
  if (unavailable.empty()) unavailable = other.unavailable;
  Append(restore_us, other.restore_us);
  Append(restores, other.restores);
  Append(restores_l3_only, other.restores_l3_only);
  Append(put_waits, other.put_waits);
}

}  // namespace cairn::offload
