#include "bench/micro/allocator_threads.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <thread>
#include <vector>

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

double PairsAMicrosecond(Allocator& allocator, int threads, const ThreadsOptions& options) {
  std::vector<double> windows(options.windows);
  for (double& pairs : windows) pairs = Window(allocator, threads, options.window_seconds);
  std::nth_element(windows.begin(), windows.begin() + options.windows / 2, windows.end());
  return windows[options.windows / 2];
}

}  // namespace cairn::micro
