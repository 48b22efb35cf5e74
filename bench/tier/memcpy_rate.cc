#include "bench/tier/memcpy_rate.h"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <memory>
#include <numeric>
#include <thread>
#include <vector>

#include "src/base/start_thread.h"
#include "src/base/status_macros.h"
#include "tiers/arena.h"

namespace cairn::bench {
namespace {

constexpr uint64_t kSourceBytesMax = uint64_t{256} << 20;
constexpr std::chrono::milliseconds kTime(500);

}  // namespace

absl::StatusOr<double> MeasureMemcpy(uint64_t block_bytes, uint64_t size, uint32_t threads) {
  using Clock = std::chrono::steady_clock;
  const uint64_t blocks = std::max<uint64_t>(1, std::min(size, kSourceBytesMax) / block_bytes);
  CAIRN_ASSIGN_OR_RETURN(const std::unique_ptr<Arena> source, Arena::Create(blocks * block_bytes));
  CAIRN_ASSIGN_OR_RETURN(const std::unique_ptr<Arena> targets,
                         Arena::Create(threads * block_bytes));
  // Every page is touched before the clock runs.
  std::memset(source->base(), 1, source->bytes());
  std::memset(targets->base(), 1, targets->bytes());
  std::vector<uint64_t> copied(threads);
  std::vector<std::jthread> copiers(threads);
  const Clock::time_point begin = Clock::now();
  const Clock::time_point end = begin + kTime;
  absl::Status status;
  for (uint32_t i = 0; i < threads && status.ok(); ++i) {
    status = StartThread(copiers[i], "tier-bench copy", [&, i] {
      std::byte* const target = targets->base() + i * block_bytes;
      uint64_t bytes = 0;
      for (uint64_t block = 0; Clock::now() < end; block = (block + 1) % blocks) {
        std::memcpy(target, source->base() + block * block_bytes, block_bytes);
        bytes += block_bytes;
      }
      copied[i] = bytes;
    });
  }
  copiers.clear();  // Joins.
  CAIRN_RETURN_IF_ERROR(status);
  const double seconds = std::chrono::duration<double>(Clock::now() - begin).count();
  return static_cast<double>(std::reduce(copied.begin(), copied.end())) / seconds;
}

}  // namespace cairn::bench
