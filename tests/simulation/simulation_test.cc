// The whole store against a simulated world: threads, clock, disk and index follow a seed, so that
// what a seed finds it finds again. A failure prints CAIRN_TEST_SEED: set it to replay that seed
// alone. CAIRN_TEST_SEEDS says how many to run (default 100), CAIRN_TEST_FIRST_SEED from where on.

#include <gtest/gtest.h>
#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <string>

#include "io/journal_file.h"
#include "io/store_files.h"
#include "src/eviction_file.h"
#include "tests/disk_fixture.h"
#include "tests/simulation/world.h"

namespace cairn {
namespace {

volatile uint64_t running_seed = 0;

uint64_t FromEnvironment(const char* name, uint64_t otherwise) {
  const char* const text = std::getenv(name);
  return text == nullptr ? otherwise : std::strtoull(text, nullptr, 10);
}

// A check that fails, a deadlock or a wild pointer ends the process: not without its seed.
extern "C" void TellSeed(int signal) {
  char line[64];
  const int bytes = std::snprintf(line, sizeof(line), "\nCAIRN_TEST_SEED=%lu\n",
                                  static_cast<unsigned long>(running_seed));
  if (write(STDERR_FILENO, line, static_cast<size_t>(bytes)) < 0) _exit(1);
  std::signal(signal, SIG_DFL);
  std::raise(signal);
}

class SimulationTest : public ::testing::Test {
 protected:
  SimulationTest() : path_(directory_ / "store") {
    std::signal(SIGABRT, TellSeed);
    std::signal(SIGSEGV, TellSeed);
    // Data files for all seeds: only their headers are ever read.
    const auto files = StoreFiles::Open({.path = path_, .bytes_max = StoreOptions::kL3BytesMin});
    EXPECT_TRUE(files.ok()) << files.status();
  }
  ~SimulationTest() override {
    std::signal(SIGABRT, SIG_DFL);
    std::signal(SIGSEGV, SIG_DFL);
  }

  // Runs a seed; returns the digest of all that happened.
  uint64_t Run(uint64_t seed) {
    running_seed = seed;
    // What it learned from an earlier seed would be of no seed's making.
    for (const char* const kept : {EvictionFile::kName, kJournalName}) {
      std::filesystem::remove(std::filesystem::path(path_) / kept);
    }
    FiberSchedule schedule(seed);
    World world(Scenario(seed), path_, &disk_, &schedule);
    schedule.Run([&world] { world.Run(); });
    EXPECT_TRUE(world.failure().empty()) << world.failure() << "CAIRN_TEST_SEED=" << seed;
    Add(world.tally());
    return schedule.digest();
  }

  void Add(const Tally& tally) {
    sum_.operations += tally.operations;
    sum_.kills += tally.kills;
    sum_.power_cuts += tally.power_cuts;
    sum_.closes += tally.closes;
    sum_.evictions += tally.evictions;
    sum_.damaged += tally.damaged;
    sum_.both_lost += tally.both_lost;
    sum_.switches += tally.switches;
    sum_.virtual_seconds += tally.virtual_seconds;
  }

  TemporaryDirectory directory_;
  const std::string path_;
  SimulatedDisk disk_;
  Tally sum_;
};

TEST_F(SimulationTest, NoSeedBreaksAPromise) {
  uint64_t first = FromEnvironment("CAIRN_TEST_FIRST_SEED", 1);
  uint64_t count = FromEnvironment("CAIRN_TEST_SEEDS", 100);
  if (const uint64_t one = FromEnvironment("CAIRN_TEST_SEED", 0); one != 0) {
    first = one;
    count = 1;
  }
  for (uint64_t seed = first; seed < first + count; ++seed) Run(seed);
  std::printf(
      "%lu seeds: %lu operations, %lu kills, %lu power cuts, %lu closes, %lu evictions,\n"
      "%lu reads of damaged tensors, %lu flushed tensors lost with what replaced them,\n"
      "%lu switches, %.0f s of simulated time\n",
      count, sum_.operations, sum_.kills, sum_.power_cuts, sum_.closes, sum_.evictions,
      sum_.damaged, sum_.both_lost, sum_.switches, sum_.virtual_seconds);
}

TEST_F(SimulationTest, ASeedIsTheSameRunEveryTime) {
  std::vector<uint64_t> digests;
  for (uint64_t seed = 1; seed <= 20; ++seed) digests.push_back(Run(seed));
  for (uint64_t seed = 20; seed >= 1; --seed) EXPECT_EQ(Run(seed), digests[seed - 1]) << seed;
  EXPECT_NE(digests[0], digests[1]);
}

}  // namespace
}  // namespace cairn
