// policy-sim as a user runs it, and that a store with real bytes hits what it says.

#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "bench/policy/prefetch.h"
#include "bench/policy/simulation.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"
#include "tests/disk_fixture.h"
#include "tests/process.h"
#include "tools/offload/workload.h"

namespace cairn {
namespace {

using ::testing::HasSubstr;
using Json = nlohmann::json;
using Words = std::vector<std::string>;

Words operator+(Words left, const Words& right) {
  left.insert(left.end(), right.begin(), right.end());
  return left;
}

policy::Workload WorkloadOf(const std::vector<std::vector<uint64_t>>& requests) {
  offload::Trace trace;
  for (const auto& ids : requests) trace.requests.push_back({.block_ids = ids});
  return policy::Workload(trace);
}

TEST(Simulation, CountsHitsUpToTheFirstThatIsMissing) {
  const policy::Workload workload = WorkloadOf({{1, 2, 3}, {1, 2, 3}, {1, 9, 3}, {4}, {1}});
  EXPECT_EQ(workload.accesses, 11);
  EXPECT_EQ(workload.blocks, 5);
  const policy::Outcome outcome = Simulate(workload, EvictionKind::kLru, {.blocks_max = 5});
  EXPECT_EQ(outcome.hits, 3 + 1 + 1);
  EXPECT_EQ(outcome.writes, 5);
}

TEST(Simulation, LetsTheLastOfAChainGoFirst) {
  // 3 and then 2 leave for 8 and 9, so 1 is still there.
  EXPECT_EQ(
      Simulate(WorkloadOf({{1, 2, 3}, {8, 9}, {1}}), EvictionKind::kLru, {.blocks_max = 3}).hits,
      1);
}

TEST(Simulation, BeladyKnowsWhatComes) {
  // 2 is never asked for again and not taken.
  EXPECT_EQ(SimulateBelady(WorkloadOf({{1}, {2}, {1}, {3}, {1}, {3}}), 2).hits, 3);
  EXPECT_EQ(SimulateBelady(WorkloadOf({{1}, {2}, {1}, {3}, {1}, {3}}), 1).hits, 2);
}

TEST(Simulation, TheDefaultIsNeverFarUnderLruAndNoneIsOverBelady) {
  const policy::Workload workload(
      offload::GenerateWorkload({.seed = 11, .requests = 1500, .block_tokens = 128}));
  for (const uint64_t one_in : {200, 50, 20, 10, 5, 2}) {
    const uint64_t blocks = std::max<uint64_t>(1, workload.blocks / one_in);
    const auto lru =
        static_cast<double>(Simulate(workload, EvictionKind::kLru, {.blocks_max = blocks}).hits);
    const auto tuned =
        static_cast<double>(Simulate(workload, EvictionKind::kTuned, {.blocks_max = blocks}).hits);
    const auto belady = static_cast<double>(SimulateBelady(workload, blocks).hits);
    EXPECT_GE(tuned, 0.99 * lru) << blocks;
    EXPECT_LE(tuned, belady) << blocks;
    EXPECT_LE(lru, belady) << blocks;
  }
}

TEST(Simulation, ARestartCostsNothing) {
  const policy::Workload workload(
      offload::GenerateWorkload({.seed = 13, .requests = 1500, .block_tokens = 128}));
  for (const EvictionKind kind : {EvictionKind::kTuned, EvictionKind::kLru, EvictionKind::kClock,
                                  EvictionKind::kArc, EvictionKind::kS3Fifo}) {
    for (const uint64_t one_in : {100, 20, 5}) {
      const uint64_t blocks = workload.blocks / one_in;
      const policy::Outcome unbroken = Simulate(workload, kind, {.blocks_max = blocks});
      const policy::Outcome broken =
          Simulate(workload, kind, {.blocks_max = blocks, .restarts = {1, 400, 401, 750, 1499}});
      EXPECT_EQ(broken.hits, unbroken.hits) << blocks;
      EXPECT_EQ(broken.writes, unbroken.writes) << blocks;
    }
  }
}

// A store without a budget writes all that it is given: L3 has what L2 has, and hits what it would
// alone.
TEST(Simulation, TwoTiersWithoutABudgetHitWhatL3Hits) {
  const policy::Workload workload(
      offload::GenerateWorkload({.seed = 3, .requests = 800, .block_tokens = 128}));
  const uint64_t blocks = workload.blocks / 10;
  for (const EvictionKind kind : {EvictionKind::kLru, EvictionKind::kTuned}) {
    const policy::Outcome one = Simulate(workload, kind, {.blocks_max = blocks});
    const policy::Outcome two =
        SimulateTiers(workload, kind, {.l2_blocks_max = blocks / 10, .l3_blocks_max = blocks});
    EXPECT_EQ(two.hits, one.hits);
    EXPECT_EQ(two.writes, one.writes);
  }
}

TEST(Simulation, WhatIsWrittenKeepsToTheBudget) {
  const policy::Workload workload(
      offload::GenerateWorkload({.seed = 5, .requests = 4000, .block_tokens = 128}));
  policy::Tiers tiers = {.l2_blocks_max = workload.blocks / 200,
                         .l3_blocks_max = workload.blocks / 20,
                         .block_bytes = 1 << 20};
  const policy::Outcome all = SimulateTiers(workload, EvictionKind::kLru, tiers);
  const double days = static_cast<double>(workload.span_ms()) / (24 * 60 * 60 * 1e3);
  for (const double share : {0.05, 0.2, 0.4, 0.6}) {
    const double granted_blocks = share * static_cast<double>(all.writes);
    tiers.write_bytes_per_day =
        static_cast<uint64_t>(granted_blocks * static_cast<double>(tiers.block_bytes) / days);
    const policy::Outcome outcome = SimulateTiers(workload, EvictionKind::kTuned, tiers);
    EXPECT_NEAR(static_cast<double>(outcome.writes), granted_blocks, 0.1 * granted_blocks) << share;
    EXPECT_GT(outcome.hits, 0);
  }
  // More than all is granted: all that is full is written.
  tiers.write_bytes_per_day = static_cast<uint64_t>(2 * static_cast<double>(workload.accesses) *
                                                    static_cast<double>(tiers.block_bytes) / days);
  EXPECT_LE(SimulateTiers(workload, EvictionKind::kLru, tiers).writes, all.writes);
}

class PolicySimTest : public ::testing::Test {
 protected:
  ProcessEnd Run(const Words& arguments) const {
    Words command = {POLICY_SIM_PATH};
    command.insert(command.end(), arguments.begin(), arguments.end());
    return Process(directory_.path(), command).Wait();
  }
  std::string Write(const std::string& name, const std::string& text) const {
    std::ofstream(directory_ / name) << text;
    return directory_ / name;
  }
  void ExpectRefused(const Words& arguments, const std::string& what) const {
    const ProcessEnd end = Run(arguments);
    EXPECT_EQ(end.exit_code, 2) << what;
    EXPECT_THAT(end.err, HasSubstr(what));
    EXPECT_EQ(end.out, "");
  }

  const TemporaryDirectory directory_;
};

TEST_F(PolicySimTest, WritesEveryPolicyAtEverySize) {
  const std::string json = directory_ / "figures.json";
  const ProcessEnd end = Run({"--requests", "300", "--sizes", "1%,50", "--policies",
                              "default,lru,clock,arc,s3fifo", "--json", json});
  ASSERT_EQ(end.exit_code, 0) << end.err;
  EXPECT_THAT(end.out, HasSubstr("generated with seed 1, not a real workload"));
  const Json figures = Json::parse(std::ifstream(json), nullptr, false);
  ASSERT_TRUE(figures.is_object());
  EXPECT_EQ(figures["results"].size(), 10);
  EXPECT_EQ(figures["results"][0]["policy"], "default");
  EXPECT_EQ(figures["results"][0]["size"], "1%");
  EXPECT_EQ(figures["results"][6]["size"], "50");
  EXPECT_EQ(figures["results"][6]["hit_rate"], figures["lru"][1]["hit_rate"]);
  for (const Json& result : figures["results"]) {
    EXPECT_GE(result["hit_rate"], 0);
    EXPECT_LE(result["hit_rate"], figures["hit_rate_max"]);
    EXPECT_GT(result["ssd_writes_per_access"], 0);
    EXPECT_GT(result["ns_per_access"], 0);
  }
}

TEST_F(PolicySimTest, WritesTwoTiersBesideLruThatWritesAll) {
  const std::string json = directory_ / "figures.json";
  const auto run = [&](const Words& arguments) {
    const ProcessEnd end = Run(Words{"--requests", "4000", "--sizes", "5%", "--policies",
                                     "lru,default", "--l2-size", "0.5%", "--json", json} +
                               arguments);
    EXPECT_EQ(end.exit_code, 0) << end.err;
    EXPECT_THAT(end.out, HasSubstr("two tiers"));
    return Json::parse(std::ifstream(json), nullptr, false);
  };
  Json figures;
  for (const char* budget : {"10%", "40%"}) {
    figures = run({"--write-budget", budget});
    ASSERT_TRUE(figures.is_object());
    EXPECT_NEAR(
        figures["write_budget_per_access"].get<double>() * figures["accesses"].get<double>(),
        std::stod(budget) / 100 * figures["distinct_blocks"].get<double>(), 1);
    const double granted = figures["write_budget_per_access"];
    for (const Json& result : figures["results"]) {
      EXPECT_NEAR(result["ssd_writes_per_access"], granted, 0.1 * granted);
    }
    EXPECT_GT(figures["lru"][0]["ssd_writes_per_access"], granted);
  }
  // The last of them in bytes.
  const Json bytes =
      run({"--write-budget", absl::StrCat(figures["write_budget_bytes_per_day"].get<uint64_t>())});
  EXPECT_EQ(bytes["results"][0]["hit_rate"], figures["results"][0]["hit_rate"]);
  const Json all = run({"--write-budget", "none"});
  EXPECT_TRUE(all["write_budget_bytes_per_day"].is_null());
  EXPECT_EQ(all["results"][0]["ssd_writes_per_access"], all["lru"][0]["ssd_writes_per_access"]);
}

TEST_F(PolicySimTest, MeasuresPrediction) {
  const std::string json = directory_ / "figures.json";
  const ProcessEnd end = Run({"--requests", "4000", "--prefetch", "--json", json});
  ASSERT_EQ(end.exit_code, 0) << end.err;
  EXPECT_THAT(end.out, HasSubstr("prefetches without hints"));
  const Json figures = Json::parse(std::ifstream(json), nullptr, false);
  ASSERT_TRUE(figures.is_object());
  EXPECT_GE(figures["accuracy"], 0.8);
  EXPECT_GE(figures["coverage"], 0.9);
  ASSERT_EQ(figures["prefetch"].size(), 3);
  for (const Json& row : figures["prefetch"]) {
    EXPECT_LE(row["used"], row["issued"]);
    EXPECT_EQ(row["reads"].get<uint64_t>(), row["reads_from_l2"].get<uint64_t>() +
                                                row["used"].get<uint64_t>() +
                                                row["demand_misses"].get<uint64_t>());
  }
  ExpectRefused({"--prefetch", "--restart-at", "0.5"}, "--prefetch: goes with neither");
  ExpectRefused({"--prefetch", "--l2-size", "none"}, "--l2-size");
}

// By hand: the second time 2 and 3 follow 1 as they did; then 4 follows 2, and is new, and of 2
// nobody can say what follows it.
TEST(Simulation, PrefetchesWhatFollowedTheLastTime) {
  const policy::PrefetchOutcome outcome =
      SimulatePrefetch(WorkloadOf({{1, 2, 3}, {1, 2, 3}, {1, 2, 4}, {1, 2, 3}}),
                       /*l2_blocks_max=*/0, /*ahead=*/1);
  EXPECT_EQ(outcome.reads, 3 + 2 + 3);
  EXPECT_EQ(outcome.issued, 2 + 2 + 1);
  EXPECT_EQ(outcome.used, 2 + 1 + 1);
  EXPECT_EQ(outcome.demand_misses, 1 + 1 + 2);
}

TEST_F(PolicySimTest, PrintsWhatAPhaseShiftHits) {
  const std::string json = directory_ / "figures.json";
  const ProcessEnd end = Run({"--phase-shift", "60GiB", "--sizes", "2%", "--json", json});
  ASSERT_EQ(end.exit_code, 0) << end.err;
  const Json figures = Json::parse(std::ifstream(json), nullptr, false);
  ASSERT_TRUE(figures.is_object());
  ASSERT_EQ(figures["results"].size(), 3 + 11);
  EXPECT_EQ(figures["results"][0]["policy"], "pools");
  for (const Json& result : figures["results"]) {
    EXPECT_LE(result["phases"][0]["hit_bytes"], result["phases"][0]["bytes"]);
    EXPECT_LE(result["phases"][1]["hit_bytes"], result["phases"][1]["bytes"]);
  }
  // Better than the splits that leave one class nothing.
  EXPECT_GT(figures["results"][0]["hit_rate"], figures["results"][3]["hit_rate"]);
  EXPECT_GT(figures["results"][0]["hit_rate"], figures["results"][13]["hit_rate"]);
  ExpectRefused({"--phase-shift", "60GiB", "--sizes", "100"}, "in percent only");
  ExpectRefused({"--phase-shift", "60GiB", "--requests", "5"}, "workload of its own");
  ExpectRefused({"--phase-shift", "much"}, "--phase-shift");
}

TEST_F(PolicySimTest, ReadsBothSchemas) {
  const std::string mooncake =
      Write("mooncake.jsonl",
            "{\"timestamp\": 0, \"input_length\": 1024, \"output_length\": 1, "
            "\"hash_ids\": [1, 2]}\n");
  EXPECT_THAT(Run({"--trace", mooncake}).out, HasSubstr("a recorded workload"));
  const std::string bailian =
      Write("bailian.jsonl",
            "{\"chat_id\": 1, \"parent_chat_id\": -1, \"timestamp\": 0.5, "
            "\"input_length\": 32, \"output_length\": 1, \"type\": \"text\", \"turn\": 1, "
            "\"hash_ids\": [1, 2]}\n");
  EXPECT_THAT(Run({"--trace", bailian}).out, HasSubstr("1 requests, 2 block accesses"));
}

TEST_F(PolicySimTest, PrintsWhatARestartCosts) {
  const std::string json = directory_ / "out.json";
  const ProcessEnd end = Run({"--requests", "500", "--sizes", "5%", "--policies", "default,lru",
                              "--restart-at", "0.25,0.5", "--json", json});
  EXPECT_EQ(end.exit_code, 0) << end.err;
  EXPECT_THAT(end.out, HasSubstr("without restarts"));
  std::ifstream file(json);
  const Json report = Json::parse(file);
  for (const Json& result : report["results"]) {
    EXPECT_GT(result["hits"], 0);
    EXPECT_EQ(result["hits"], result["unbroken_hits"]);
  }
}

TEST_F(PolicySimTest, SaysWhatIsWrong) {
  for (const char* size : {"0", "0%", "-1", "101%", "ten", "1.5", "", "nan%", "1e3"}) {
    ExpectRefused({"--sizes", size}, "--sizes");
  }
  for (const char* budget : {"0", "0%", "-1", "1001%", "some", "", "nan%"}) {
    ExpectRefused({"--l2-size", "1%", "--write-budget", budget}, "--write-budget");
  }
  ExpectRefused({"--write-budget", "1GB"}, "--write-budget: needs --l2-size");
  ExpectRefused({"--block-bytes", "1MB"}, "--block-bytes: needs --l2-size");
  ExpectRefused({"--l2-size", "0"}, "--l2-size");
  for (const char* shares : {"0", "1", "-0.5", "0.5,0.5", "0.7,0.2", "half", "", "0.5,"}) {
    ExpectRefused({"--restart-at", shares}, "--restart-at");
  }
  ExpectRefused({"--restart-at", "0.5", "--l2-size", "1%"}, "--restart-at: is of one tier");
  ExpectRefused({"--l2-size", "1", "--block-bytes", "0"}, "--block-bytes");
  ExpectRefused({"--policies", "belady"}, "--policies: \"belady\" is none of default, lru");
  ExpectRefused({"--trace", directory_ / "none.jsonl"}, "none.jsonl");
  ExpectRefused({"--trace", Write("bad.jsonl",
                                  "{\"timestamp\": 0, \"input_length\": 512, "
                                  "\"output_length\": 1, \"hash_ids\": [1]}\n{\"timestamp\"\n")},
                "bad.jsonl:2:");
  ExpectRefused({"--requests", "0"}, "--requests");
  ExpectRefused({"--seed", "x"}, "--seed");
  ExpectRefused({"--json", directory_ / "no/such.json"}, "such.json");
  ExpectRefused({"--fish"}, "--fish");
}

// The same requests over a store with real bytes, in as much room as the store had. Of blocks that
// share no packs: of others it is not always as many that have room.
TEST_F(PolicySimTest, AgreesWithAStore) {
  const policy::Workload workload(
      offload::GenerateWorkload({.seed = 7, .requests = 120, .block_tokens = 16}));
  const std::string json = directory_ / "figures.json";
  for (const std::string write_policy : {"back", "through"}) {
    for (const std::string l3 : {"128MiB", "256MiB"}) {
      const ProcessEnd end =
          Process(directory_.path(),
                  {KV_OFFLOAD_PATH, "--dir", directory_ / (l3 + write_policy), "--l2", "32MiB",
                   "--l3", l3, "--kv-bytes-per-token", "8192", "--seed", "7", "--requests", "120",
                   "--write-policy", write_policy, "--json", json})
              .Wait();
      EXPECT_EQ(end.exit_code, 0) << end.err;
      const Json figures = Json::parse(std::ifstream(json), nullptr, false);
      ASSERT_TRUE(figures.is_object());
      const uint64_t blocks = figures["tiers"]["l3"]["tensors"];
      const policy::Outcome simulated =
          Simulate(workload, EvictionKind::kTuned, {.blocks_max = blocks});
      EXPECT_EQ(figures["blocks_looked_up"], workload.accesses);
      EXPECT_NEAR(figures["blocks_hit"].get<double>(), static_cast<double>(simulated.hits),
                  0.01 * static_cast<double>(simulated.hits))
          << l3 << " written " << write_policy << ", " << blocks << " blocks";
    }
  }
}

}  // namespace
}  // namespace cairn
