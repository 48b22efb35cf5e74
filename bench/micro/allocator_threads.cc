#include "bench/micro/allocator_threads.h"

#include <atomic>
#include <chrono>
#include <thread>
#include <vector>

#include "bench/median.h"
#include "src/base/check.h"

namespace cairn::micro {
namespace {

constexpr uint64_t kBlockBytes = (uint64_t{9} << 20) / 4;
constexpr int kPairsAStep = 64;

double Window(Allocator& allocator, int threads, double seconds) {
  std::atomic<bool> stop = false;
  std::atomic<uint64_t> pairs = 0;
  const auto start = std::chrono::steady_clock::now();
  {
    std::vector<std::jthread> crew;
    crew.reserve(static_cast<size_t>(threads));
    for (int i = 0; i < threads; ++i) {
      crew.emplace_back([&] {
        uint64_t mine = 0;
        while (!stop.load(std::memory_order_relaxed)) {
          for (int pair = 0; pair < kPairsAStep; ++pair) {
            const absl::StatusOr<Extent> extent = allocator.Allocate(kBlockBytes);
            CAIRN_CHECK(extent.ok() && allocator.Free(*extent).ok());
          }
          mine += kPairsAStep;
        }
        pairs += mine;
      });
    }
    std::this_thread::sleep_for(std::chrono::duration<double>(seconds));
    stop = true;
  }
  const std::chrono::duration<double, std::micro> took = std::chrono::steady_clock::now() - start;
  return static_cast<double>(pairs) / took.count();
}

}  // namespace

void MeasureThreads(std::vector<ThreadsRow>& rows, const ThreadsOptions& options) {
  struct Windows {
    std::array<std::vector<double>, kThreadCounts.size()> pairs;
    std::vector<double> two_over_one;
    std::vector<double> eight_over_two;
  };
  std::vector<Windows> all(rows.size());
  for (int turn = 0; turn < options.windows; ++turn) {
    for (size_t row = 0; row < rows.size(); ++row) {
      Windows& windows = all[row];
      for (size_t i = 0; i < kThreadCounts.size(); ++i) {
        windows.pairs[i].push_back(
            Window(*rows[row].allocator, kThreadCounts[i], options.window_seconds));
      }
      windows.two_over_one.push_back(windows.pairs[1].back() / windows.pairs[0].back());
      windows.eight_over_two.push_back(windows.pairs[3].back() / windows.pairs[1].back());
    }
  }
  for (size_t row = 0; row < rows.size(); ++row) {
    for (size_t i = 0; i < kThreadCounts.size(); ++i) {
      rows[row].pairs_a_microsecond[i] = Median(all[row].pairs[i]);
    }
    rows[row].two_over_one = Median(all[row].two_over_one);
    rows[row].eight_over_two = Median(all[row].eight_over_two);
  }
}

}  // namespace cairn::micro
