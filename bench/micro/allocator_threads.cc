#include "bench/micro/allocator_threads.h"

#include <atomic>
#include <vector>

#include "bench/median.h"
#include "bench/micro/rates.h"
#include "src/base/check.h"

namespace cairn::micro {
namespace {

constexpr uint64_t kBlockBytes = (uint64_t{9} << 20) / 4;
constexpr int kPairsAStep = 64;

WindowRates Window(Allocator& allocator, int threads, double seconds) {
  const auto work = [&allocator](int, const std::atomic<bool>& stop) {
    uint64_t count = 0;
    do {
      for (int pair = 0; pair < kPairsAStep; ++pair) {
        const absl::StatusOr<Extent> extent = allocator.Allocate(kBlockBytes);
        CAIRN_CHECK(extent.ok() && allocator.Free(*extent).ok());
      }
      count += kPairsAStep;
    } while (!stop.load(std::memory_order_relaxed));
    return count;
  };
  return MeasureWindow({.threads = threads, .first_threads = threads, .seconds = seconds}, work);
}

}  // namespace

void MeasureThreads(std::vector<ThreadsRow>& rows, const ThreadsOptions& options) {
  struct Windows {
    std::array<std::vector<double>, kThreadCounts.size()> pairs;
    std::vector<double> two_over_one;
    std::vector<double> two_over_one_by_cpu;
    std::vector<double> eight_over_two;
  };
  std::vector<Windows> all(rows.size());
  for (int turn = 0; turn < options.windows; ++turn) {
    for (size_t row = 0; row < rows.size(); ++row) {
      Windows& windows = all[row];
      std::array<double, kThreadCounts.size()> by_cpu = {};
      for (size_t i = 0; i < kThreadCounts.size(); ++i) {
        const WindowRates rates =
            Window(*rows[row].allocator, kThreadCounts[i], options.window_seconds);
        windows.pairs[i].push_back(rates.first);
        by_cpu[i] = kThreadCounts[i] * rates.first / rates.processors;
      }
      windows.two_over_one_by_cpu.push_back(by_cpu[1] / by_cpu[0]);
      windows.two_over_one.push_back(windows.pairs[1].back() / windows.pairs[0].back());
      windows.eight_over_two.push_back(windows.pairs[3].back() / windows.pairs[1].back());
    }
  }
  for (size_t row = 0; row < rows.size(); ++row) {
    for (size_t i = 0; i < kThreadCounts.size(); ++i) {
      rows[row].pairs_a_microsecond[i] = Median(all[row].pairs[i]);
    }
    rows[row].two_over_one = Median(all[row].two_over_one);
    rows[row].two_over_one_by_cpu = Median(all[row].two_over_one_by_cpu);
    rows[row].eight_over_two = Median(all[row].eight_over_two);
  }
}

}  // namespace cairn::micro
