// Runs the program kv-offload as a user does. KV_OFFLOAD_PATH is where the build put it.

#include <algorithm>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"
#include "tests/kv_offload_fixture.h"
#include "tests/lru_simulation.h"
#include "tests/process.h"
#include "tools/offload/trace.h"
#include "tools/offload/workload.h"

namespace cairn {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

void ExpectLru(const offload::Trace& trace, const Json& figures) {
  LruSimulation lru({.bytes_max = figures["config"]["l3_bytes_for_tensors"],
                     .block_bytes = figures["config"]["block_bytes"]});
  for (const offload::Request& request : trace.requests) lru.Replay(request.block_ids);
  EXPECT_EQ(figures["blocks_looked_up"], lru.lookups());
  EXPECT_NEAR(figures["hit_rate"], lru.hit_rate(), 0.02);
}

TEST_F(KvOffloadTest, RestoresWhatItStored) {
  const Json figures = Figures(Small() + Words{"--requests", "150"});
  EXPECT_EQ(figures["requests"], 150);
  EXPECT_GT(figures["hits_l2"], 0);
  EXPECT_GT(figures["hits_l3"], 0);
  EXPECT_GT(figures["tokens_saved"], 0);
  EXPECT_GT(figures["bytes_written_l3"], 0);
  EXPECT_GE(figures["restore_us_p99"], figures["restore_us_p50"]);
  EXPECT_GT(figures["restore_gbps"], 0);
  EXPECT_GT(figures["store_gbps"], 0);
  EXPECT_EQ(figures["warm_start_blocks"], 0);
  EXPECT_EQ(figures["interrupted"], false);
}

TEST_F(KvOffloadTest, HintsBringWhatTheNextRequestsNeed) {
  Figures(Small() + Words{"--requests", "120"});
  const Json figures = Figures(Small() + Words{"--requests", "120", "--hints", "4"});
  const Json& prefetches = figures["prefetches"];
  EXPECT_GT(prefetches["used"].get<uint64_t>() + prefetches["late"].get<uint64_t>(),
            prefetches["unused"].get<uint64_t>());
  EXPECT_GE(prefetches["taken"], prefetches["used"]);
  EXPECT_EQ(figures["config"]["hints"], 4);
}

TEST_F(KvOffloadTest, PredictsWhatWasReadBefore) {
  Figures(Small() + Words{"--requests", "120"});
  const Json figures = Figures(Small() + Words{"--requests", "120", "--predict", "--window", "2"});
  const Json& predictions = figures["predictions"];
  EXPECT_GT(predictions["taken"], 0);
  EXPECT_GE(predictions["taken"], predictions["used"]);
  EXPECT_GT(predictions["accuracy"], 0.5);
  EXPECT_LE(predictions["accuracy"], 1);
  EXPECT_GT(predictions["coverage"], 0);
  EXPECT_LE(predictions["coverage"], 1);
  EXPECT_EQ(figures["prefetches"]["taken"], 0);
  EXPECT_EQ(figures["config"]["predict"], true);
}

TEST_F(KvOffloadTest, TakesTheHostsTimeByTheTracesClock) {
  const Json figures =
      Figures(Small() + Words{"--requests", "20", "--speed", "1000", "--decode-tokens-per-s", "5"});
  // Some hundreds of tokens an answer: a second and more of each is over in a few milliseconds.
  EXPECT_GT(figures["wall_s"], 0.2);
}

TEST_F(KvOffloadTest, HitsAsAnLruOfItsSizeDoes) {
  const Json figures =
      Figures(Small() + Words{"--requests", "250", "--seed", "7", "--eviction", "lru"});
  ExpectLru(offload::GenerateWorkload({.seed = 7, .requests = 250, .block_tokens = 16}), figures);
}

TEST_F(KvOffloadTest, StartsWarm) {
  const Words arguments = Small() + Words{"--requests", "60", "--json", Path("figures.json")};
  ASSERT_EQ(Run(arguments).exit_code, 0);
  const ProcessEnd end = Run(arguments);
  EXPECT_EQ(end.exit_code, 0) << end.err;
  const Json figures = ReadFigures();
  EXPECT_GT(figures["warm_start_blocks"], 0);
  EXPECT_THAT(end.err,
              HasSubstr("warm start: " + figures["warm_start_blocks"].dump() + " blocks found"));
}

TEST_F(KvOffloadTest, SpreadsOverDataDirectoriesAndFindsThemAgain) {
  std::filesystem::create_directory(Path("drive0"));
  std::filesystem::create_directory(Path("drive1"));
  const Words data = {"--data-dir", Path("drive0"), "--data-dir", Path("drive1")};
  Figures(Small() + data + Words{"--requests", "60"});
  EXPECT_FALSE(std::filesystem::exists(Path("store/data")));
  EXPECT_FALSE(std::filesystem::is_empty(Path("drive0")));
  EXPECT_FALSE(std::filesystem::is_empty(Path("drive1")));
  EXPECT_GT(Figures(Small() + Words{"--requests", "60"})["warm_start_blocks"], 0);
  const ProcessEnd end = Run(Small() + Words{"--data-dir", Path("drive1")});
  EXPECT_EQ(end.exit_code, 2);
  EXPECT_THAT(end.err, HasSubstr("made with 2 data paths"));
}

TEST_F(KvOffloadTest, ServesRequestsAtATime) {
  const Json figures = Figures(Small() + Words{"--requests", "150", "--concurrency", "4"});
  EXPECT_EQ(figures["requests"], 150);
}

TEST_F(KvOffloadTest, WritesThrough) {
  const Json figures = Figures(Small() + Words{"--requests", "20", "--write-policy", "through"});
  EXPECT_EQ(figures["bytes_written_l3"], 16384 * figures["puts"].get<uint64_t>());
}

TEST_F(KvOffloadTest, KeepsToAWriteBudget) {
  const Words run = Small() + Words{"--requests", "150"};
  // As good as nothing: what is put stays in L2, and is still right.
  const Json refused = Figures(run + Words{"--l3-write-budget", "1"})["write_budget"];
  EXPECT_EQ(refused["bytes_per_day"], 1);
  EXPECT_LE(refused["bytes_written"], 200 * 20480);
  EXPECT_GT(refused["refused_first_sight"], 100);
  std::filesystem::remove_all(Path("store"));
  const Json figures = Figures(run + Words{"--l3-write-budget", "200TB"});
  const Json& budget = figures["write_budget"];
  EXPECT_EQ(budget["bytes_per_day"], 200'000'000'000'000);
  EXPECT_EQ(budget["refused_over_budget"], 0);
  // Record headers are counted, too.
  EXPECT_GE(budget["bytes_written"], figures["bytes_written_l3"]);
  std::filesystem::remove_all(Path("store"));
  const Json derived = Figures(run + Words{"--l3-write-budget", "drive"})["write_budget"];
  EXPECT_GT(derived["bytes_per_day"], 64 << 20);
  EXPECT_EQ(derived["refused_first_sight"], 0);
  EXPECT_EQ(Figures(run)["write_budget"]["bytes_per_day"], 0);
}

TEST_F(KvOffloadTest, RefusesTheStoreOfAnotherModelByName) {
  Figures(Small() + Words{"--requests", "5"});
  const ProcessEnd end = Run({"--dir", Path("store"), "--l2", "8MiB", "--l3", "64MiB", "--requests",
                              "5", "--kv-bytes-per-token", "2048"});
  EXPECT_EQ(end.exit_code, 2);
  EXPECT_THAT(end.err,
              AllOf(HasSubstr("kv_bytes_per_token=1024"), HasSubstr("kv_bytes_per_token=2048")));
}

TEST_F(KvOffloadTest, ReportsWhenInterrupted) {
  std::ofstream trace(Path("trace.jsonl"));
  for (int i = 0; i < 10; ++i) {
    trace << R"({"timestamp": )" << (i < 9 ? 0 : 1'000'000'000)
          << R"(, "input_length": 1024, "output_length": 1, "hash_ids": [1, )" << i + 2 << "]}\n";
  }
  trace.close();
  for (const int signal : {SIGINT, SIGTERM}) {
    const Words arguments = {"--dir",
                             Path("store"),
                             "--l2",
                             "8MiB",
                             "--l3",
                             "64MiB",
                             "--json",
                             Path("figures.json"),
                             "--trace",
                             Path("trace.jsonl"),
                             "--speed",
                             "1",
                             "--kv-bytes-per-token",
                             "32"};
    Process process(directory_.path(), Command(arguments));
    ASSERT_TRUE(process.WaitUntilSaid(" 9 of 10 requests"));
    process.Signal(signal);
    const ProcessEnd end = process.Wait();
    EXPECT_EQ(end.exit_code, 0) << end.err;
    EXPECT_THAT(end.err, HasSubstr("interrupted"));
    EXPECT_THAT(end.out, AllOf(HasSubstr("9 (interrupted)"), HasSubstr("mismatches: 0")));
    const Json figures = ReadFigures();
    EXPECT_EQ(figures["requests"], 9);
    EXPECT_EQ(figures["interrupted"], true);
  }
}

TEST_F(KvOffloadTest, LosesNothingItBelievesInWhenKilled) {
  const Words arguments = Small() + Words{"--requests", "120"};
  for (const char* moment : {" 12 of 120", " 60 of 120", " 96 of 120"}) {
    Process process(directory_.path(), Command(arguments));
    ASSERT_TRUE(process.WaitUntilSaid(moment));
    process.Signal(SIGKILL);
    process.Wait();
    const Json figures = Figures(arguments);
    EXPECT_GT(figures["warm_start_blocks"], 0);
    EXPECT_EQ(figures["requests"], 120);
  }
}

// What is damaged on the disk is computed anew, and neither a hit nor a mismatch. So few requests
// that the store holds them all.
TEST_F(KvOffloadTest, RecomputesWhatIsDamaged) {
  Figures(Small() + Words{"--requests", "20"});
  for (const auto& file : std::filesystem::directory_iterator(Path("store/data"))) {
    std::fstream data(file.path(), std::ios::in | std::ios::out | std::ios::binary);
    for (uint64_t offset = 10'000; offset < file.file_size(); offset += 100'000) {
      data.seekp(static_cast<std::streamoff>(offset));
      data.put('!');
    }
  }
  const Json damaged = Figures(Small() + Words{"--requests", "20"});
  EXPECT_GT(damaged["data_losses"], 0);
  const Json repaired = Figures(Small() + Words{"--requests", "20"});
  EXPECT_EQ(repaired["requests"], 20);
}

// Three tiers, each smaller than the work, and the bytes compared behind a copy out of L1.
TEST_F(KvOffloadTest, RestoresToL1) {
  const ProcessEnd end = Run({"--dir", Path("store"), "--l1", "4MiB", "--l2", "8MiB", "--l3",
                              "64MiB", "--kv-bytes-per-token", "1024", "--requests", "120",
                              "--device", "host", "--json", Path("figures.json")});
  EXPECT_EQ(end.exit_code, 0) << end.err;
  EXPECT_THAT(end.err, HasSubstr("HostDevice stands in"));
  EXPECT_THAT(end.out, HasSubstr("HostDevice stands in"));
  const Json figures = ReadFigures();
  EXPECT_EQ(figures["mismatches"], 0);
  EXPECT_EQ(figures["load_failures"], 0);
  EXPECT_GT(figures["hits_l1"], 0);
  EXPECT_GT(figures["hits_l2"], 0);
  EXPECT_GT(figures["hits_l3"], 0);
  EXPECT_GT(figures["evictions_l1"], 0);
  EXPECT_EQ(figures["device"], "host");
}

TEST_F(KvOffloadTest, ReplaysARealTrace) {
  const char* path = getenv("CAIRN_TRACE");
  if (path == nullptr) GTEST_SKIP() << "CAIRN_TRACE names no trace";
  const absl::StatusOr<offload::Trace> trace = offload::ReadTrace(path, 2000);
  ASSERT_TRUE(trace.ok()) << trace.status();
  const Words arguments = {"--dir",
                           Path("store"),
                           "--l2",
                           "64MiB",
                           "--l3",
                           "512MiB",
                           "--trace",
                           path,
                           "--requests",
                           "2000",
                           "--block-tokens",
                           "512",
                           "--kv-bytes-per-token",
                           "2048",
                           "--scale",
                           "64",
                           "--eviction",
                           "lru"};
  const Json figures = Figures(arguments);
  ExpectLru(*trace, figures);
  EXPECT_GT(Figures(arguments)["warm_start_blocks"], 0);
}

}  // namespace
}  // namespace cairn
