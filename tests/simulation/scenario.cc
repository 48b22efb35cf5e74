// What a seed chooses.

#include <algorithm>

#include "tests/simulation/world.h"

namespace cairn {
namespace {

constexpr uint64_t kKiB = 1024;
constexpr uint64_t kMiB = 1024 * kKiB;

}  // namespace

Scenario::Scenario(uint64_t seed_chosen) : seed(seed_chosen) {
  Random random(seed * 3 + 1);
  clients = static_cast<int>(random.Between(1, 3));
  keys = static_cast<int>(random.Between(2, 16));
  constexpr uint64_t kBytesMax[] = {16 * kKiB, 100 * kKiB, 500 * kKiB, 1300 * kKiB};
  constexpr int kOperations[] = {150, 120, 80, 50};
  const uint64_t size = std::min(random.Below(5), random.Below(4));
  bytes_max = kBytesMax[size];
  operations = kOperations[size] * 3 / (clients + 1);
  l3_free_bytes = random.OneIn(2) ? 0 : bytes_max * random.Between(2, 8) + 2 * kMiB;
  l2_free_bytes = random.OneIn(3) ? bytes_max * random.Between(1, 4) : 0;
  if (l2_free_bytes >= StoreOptions::kL2BytesMin) l2_free_bytes = 0;
  write_policy = random.OneIn(2) ? WritePolicy::kWriteBack : WritePolicy::kWriteThrough;
  ttls = random.OneIn(3);
  const uint64_t kind = random.Below(10);
  io_faults.fails = kind >= 6;
  io_faults.lies = kind >= 8;
  constexpr uint64_t kOneIn[] = {5, 20, 100};
  if (kind >= 6) io_faults.one_in = kOneIn[random.Below(3)];
  if (kind >= 6 && random.OneIn(2)) index_faults.one_in = kOneIn[random.Below(3)];
  if (random.OneIn(3)) io_faults.slow_one_in = 20;
  if (kind >= 6 && random.OneIn(2)) {
    io_faults.flush_fails_one_in = kOneIn[random.Below(3)];
    // Nothing else, so that more of what the store says is certain.
    if (random.OneIn(2)) {
      io_faults.one_in = 0;
      io_faults.lies = false;
      index_faults.one_in = 0;
    }
  }
  if (seed % 2 == 0) l1_bytes = StoreOptions::kL2BytesMin;
  if (seed % 4 == 0) device_delay_us_max = 3000;
  const uint64_t count = random.Between(1, 3);
  for (uint64_t i = 0; i < count; ++i) {
    constexpr Ending kEndings[] = {Ending::kClose,   Ending::kClose,    Ending::kKill,
                                   Ending::kKill,    Ending::kPowerCut, Ending::kPowerCut,
                                   Ending::kPowerCut};
    const Ending ending = kEndings[random.Below(7)];
    // As likely in the first hundred steps as in the last ten thousand.
    const uint64_t steps = uint64_t{100} << random.Below(9);
    phases.push_back(
        {.ending = ending,
         .steps_until_crash = ending == Ending::kClose ? 0 : steps + random.Below(steps)});
  }
}

}  // namespace cairn
