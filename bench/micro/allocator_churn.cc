#include "bench/micro/allocator_churn.h"

#include <algorithm>
#include <array>
#include <ctime>
#include <random>
#include <vector>

#include "src/base/check.h"

namespace cairn::micro {
namespace {

constexpr double kEvictedShare = 0.05;
constexpr double kPairsFill = 0.75;
constexpr size_t kSizes = 4096;
constexpr size_t kAhead = 8;

// What the thread has used of a processor: who has it meanwhile on a machine that others use, too,
// does not count.
double ThreadNs() {
  timespec now = {};
  CAIRN_CHECK(::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now) == 0);
  return 1e9 * static_cast<double>(now.tv_sec) + static_cast<double>(now.tv_nsec);
}

class Heap {
 public:
  Heap(Allocator& allocator, const Workload& workload, const ChurnOptions& options)
      : allocator_(allocator), workload_(workload), options_(options) {}

  // The utilisation at the first failure.
  double Fill() {
    while (true) {
      const uint64_t bytes = workload_.bytes(random_);
      const absl::StatusOr<Extent> extent = allocator_.Allocate(bytes);
      if (!extent.ok()) return Utilisation();
      live_.push_back(*extent);
      live_bytes_.push_back(bytes);
      bytes_asked_ += bytes;
    }
  }

  void Evict() {
    const double left = static_cast<double>(live_.size()) * (1 - kEvictedShare);
    while (static_cast<double>(live_.size()) > left) FreeOne();
  }

  void EvictUntil(double utilisation) {
    while (Utilisation() > utilisation) FreeOne();
  }

  double PairNs() {
    // Little of the cache is taken by what belongs to the bench: sizes come from a short list, and
    // the caller's own table of its blocks is fetched ahead.
    std::array<uint32_t, kSizes> sizes;
    for (uint32_t& size : sizes) size = static_cast<uint32_t>(workload_.bytes(random_));
    std::array<size_t, kAhead> victims;
    uint64_t state = random_();
    const auto draw = [&](size_t step) {
      state = state * 6364136223846793005 + 1442695040888963407;
      victims[step % kAhead] = (state >> 33) * live_.size() >> 31;
      __builtin_prefetch(&live_[victims[step % kAhead]]);
    };
    for (size_t step = 0; step < kAhead; ++step) draw(step);
    const double start_ns = ThreadNs();
    for (size_t step = 0; step < options_.pairs_a_window; ++step) {
      // Of those that are left, where the list has become shorter.
      const size_t victim = std::min(victims[step % kAhead], live_.size() - 1);
      CAIRN_CHECK(allocator_.Free(live_[victim]).ok());
      const absl::StatusOr<Extent> extent = allocator_.Allocate(sizes[step % kSizes]);
      if (extent.ok()) {
        live_[victim] = *extent;
      } else {  // Some do not find room for a large one at 75 % full.
        live_[victim] = live_.back();
        live_.pop_back();
      }
      draw(step);
    }
    return (ThreadNs() - start_ns) / static_cast<double>(options_.pairs_a_window);
  }

 private:
  double Utilisation() const {
    return static_cast<double>(bytes_asked_) / static_cast<double>(options_.arena_bytes);
  }

  void FreeOne() {
    const size_t victim = random_() % live_.size();
    CAIRN_CHECK(allocator_.Free(live_[victim]).ok());
    bytes_asked_ -= live_bytes_[victim];
    live_[victim] = live_.back();
    live_.pop_back();
    live_bytes_[victim] = live_bytes_.back();
    live_bytes_.pop_back();
  }

  Allocator& allocator_;
  const Workload& workload_;
  const ChurnOptions& options_;
  std::mt19937_64 random_{1};  // The same sizes and victims for every allocator.
  std::vector<Extent> live_;
  std::vector<uint64_t> live_bytes_;  // What was asked for, for each of them.
  uint64_t bytes_asked_ = 0;
};

}  // namespace

ChurnFigures Churn(Allocator& allocator, const Workload& workload, const ChurnOptions& options) {
  Heap heap(allocator, workload, options);
  const int counted = std::max(options.rounds / 3, 1);
  double utilisation_sum = 0;
  for (int round = 0; round < options.rounds; ++round) {
    const double utilisation = heap.Fill();
    if (round >= options.rounds - counted) utilisation_sum += utilisation;
    heap.Evict();
  }
  heap.EvictUntil(kPairsFill);
  std::vector<double> windows(options.windows);
  for (double& ns : windows) ns = heap.PairNs();
  std::nth_element(windows.begin(), windows.begin() + options.windows / 2, windows.end());
  return {.utilisation = utilisation_sum / counted, .pair_ns = windows[options.windows / 2]};
}

}  // namespace cairn::micro
