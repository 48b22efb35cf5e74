// What kv-offload's options make of its store, and which it refuses.

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/kv_offload_fixture.h"
#include "tests/process.h"

namespace cairn {
namespace {

using ::testing::HasSubstr;

using KvOffloadOptionsTest = KvOffloadTest;

TEST_F(KvOffloadOptionsTest, HeedsMemoryPressureUnlessToldOtherwise) {
  const Words run = Small() + Words{"--requests", "20"};
  const Json heeding = Figures(run + Words{"--l2-min", "8MiB"})["pressure"];
  EXPECT_GT(heeding["readings"], 0);
  EXPECT_EQ(heeding["l2_bytes_usable"], 8 << 20);
  const Json ignoring = Figures(run + Words{"--ignore-pressure"})["pressure"];
  EXPECT_EQ(ignoring["readings"], 0);
  EXPECT_EQ(ignoring["l2_bytes_usable"], 8 << 20);
}

TEST_F(KvOffloadOptionsTest, MixesClassesOfTensors) {
  const Words arguments = {"--dir",       Path("store"), "--l1",        "8MiB",
                           "--l1-memory", "managed",     "--l2",        "16MiB",
                           "--l3",        "128MiB",      "--model",     "qwen3-vl-8b",
                           "--scale",     "64",          "--class-mix", "kv:70,vision:20,text:10",
                           "--requests",  "80"};
  const Json figures = Figures(arguments);
  for (const char* hits : {"hits_l1", "hits_kv", "hits_vision", "hits_text"}) {
    EXPECT_GT(figures[hits], 0) << hits;
  }
  EXPECT_EQ(figures["mismatches"], 0);
  EXPECT_EQ(figures["config"]["l1_memory"], "managed");
}

TEST_F(KvOffloadOptionsTest, PollsWhereTheMachineLetsIt) {
  const Words run = Small() + Words{"--requests", "20"};
  const Json idle = Figures(run);
  EXPECT_EQ(idle["io_submissions_polled"], false);
  EXPECT_EQ(idle["io_polling_refusal"], "");
  const Json polling =
      Figures(run + Words{"--io-submission-polling", "50", "--io-completion-polling"});
  EXPECT_EQ(polling["mismatches"], 0);
  EXPECT_EQ(polling["io_submissions_polled"] && polling["io_completions_polled"],
            polling["io_polling_refusal"] == "");
  EXPECT_THAT(Run(run + Words{"--io-submission-polling", "0"}).err,
              HasSubstr("--io-submission-polling"));
}

TEST_F(KvOffloadOptionsTest, WeighsDataDirectories) {
  const Words names = {Path("drive0"), Path("drive=x")};
  for (const std::string& name : names) std::filesystem::create_directory(name);
  const Json drives = Figures(Small() + Words{"--data-dir", names[0], "--data-dir", names[1] + "=2",
                                              "--requests", "20"})["drives"];
  ASSERT_EQ(drives.size(), 2u);
  EXPECT_EQ(drives[0]["weight"], 1);
  EXPECT_EQ(drives[1]["weight"], 2);
  const ProcessEnd end =
      Run(Small() + Words{"--data-dir", names[0] + "=2", "--data-dir", names[1]});
  EXPECT_EQ(end.exit_code, 2);
  EXPECT_THAT(end.err, HasSubstr("made with the data weights 1:2 and was opened with 2:1"));
}

// Blocks of 20 KiB: the buddy takes 32 for each.
TEST_F(KvOffloadOptionsTest, CutsL2AsItIsTold) {
  const Words run = {"--l2", "8MiB",       "--l3", "64MiB", "--kv-bytes-per-token",
                     "1280", "--requests", "40"};
  const auto bytes_each = [&](const char* allocator) {
    const Json l2 =
        Figures(run + Words{"--dir", Path(allocator), "--l2-allocator", allocator})["tiers"]["l2"];
    return l2["bytes_used"].get<double>() / l2["tensors"].get<double>();
  };
  EXPECT_EQ(bytes_each("best-fit"), 20 * 1024);
  EXPECT_EQ(bytes_each("buddy"), 32 * 1024);
  EXPECT_LT(bytes_each("hybrid"), 22 * 1024);
}

// Both tiers are smaller than the vision tensors alone, and than the KV blocks alone.
TEST_F(KvOffloadOptionsTest, SharesTiersAmongClassesAsItIsTold) {
  const Words run = {"--l2",        "8MiB",    "--l3", "64MiB",       "--model",
                     "qwen3-vl-8b", "--scale", "64",   "--class-mix", "kv:70,vision:20,text:10",
                     "--requests",  "60"};
  const auto vision_share = [](const Json& tier) {
    return tier["classes"]["vision"]["bytes"].get<double>() / tier["bytes_used"].get<double>();
  };
  const Json much = Figures(run + Words{"--dir", Path("much"), "--l3-class-shares", "vision=0.6:1",
                                        "--l2-class-shares", "vision=0.6:1"});
  EXPECT_GT(vision_share(much["tiers"]["l3"]), 0.5);
  EXPECT_GT(vision_share(much["tiers"]["l2"]), 0.5);
  EXPECT_EQ(much["config"]["l2_class_shares"], "general=0:1,kv=0:1,vision=0.6:1,text=0:1");
  const Json little = Figures(run + Words{"--dir", Path("little"), "--l3-class-shares", "kv=0.6:1",
                                          "--l2-class-shares", "kv=0.6:1"});
  EXPECT_LT(vision_share(little["tiers"]["l3"]), 0.45);
  EXPECT_LT(vision_share(little["tiers"]["l2"]), 0.45);
  EXPECT_EQ(little["config"]["l3_class_shares"], "general=0:1,kv=0.6:1,vision=0:1,text=0:1");
}

// Requests go to the GPUs in turn, so what one of them has read the next may bring to another.
TEST_F(KvOffloadOptionsTest, ServesRequestsOnSeveralGpus) {
  const Json figures = Figures(
      Small() + Words{"--l1", "4MiB", "--gpus", "1,0,3", "--device", "host", "--requests", "60"});
  EXPECT_EQ(figures["mismatches"], 0);
  EXPECT_EQ(figures["config"]["gpus"], Json({1, 0, 3}));
  ASSERT_EQ(figures["gpus"].size(), 3U);
  uint64_t hits = 0;
  for (const Json& gpu : figures["gpus"]) {
    EXPECT_GT(gpu["l1"]["bytes_written"], 0) << gpu["ordinal"];
    hits += gpu["l1"]["hits"].get<uint64_t>();
  }
  EXPECT_EQ(figures["tiers"]["l1"]["hits"], hits);
  EXPECT_EQ(figures["tiers"]["l1"]["bytes_max"], 3 * (4 << 20));
}

struct Mistake {
  Words arguments;
  std::vector<std::string> said;
};

TEST_F(KvOffloadOptionsTest, NamesWhatIsWrong) {
  std::ofstream(Path("broken.jsonl"))
      << R"({"timestamp": 0, "input_length": 9, "output_length": 1, "hash_ids": [1]})"
      << "\n{\n";
  std::ofstream(Path("empty.jsonl")) << "";
  const std::vector<Mistake> mistakes = {
      {{}, {"--dir is required"}},
      {Small() + Words{"--frobnicate"}, {"--frobnicate"}},
      {Small() + Words{"--trace", Path("none.jsonl")}, {Path("none.jsonl"), "No such file"}},
      {Small() + Words{"--trace", Path("broken.jsonl")}, {"broken.jsonl:2: not valid JSON"}},
      {Small() + Words{"--trace", Path("empty.jsonl")}, {"empty.jsonl", "no requests"}},
      {Small() + Words{"--trace", ""}, {"--trace", "no file"}},
      {{"--dir", Path("store"), "--l2", "8MiB", "--l3", "64MiB", "--model", "gpt-2"},
       {"--model", "gpt-2", "qwen3-vl-8b"}},
      {Small() + Words{"--model", "llama-3-8b"}, {"--kv-bytes-per-token", "--model"}},
      {Small() + Words{"--requests", "-1"}, {"--requests", "\"-1\""}},
      {Small() + Words{"--block-tokens", "0"}, {"--block-tokens", "\"0\""}},
      {Small() + Words{"--block-tokens", "8192"}, {"--l2", "8 MiB"}},
      {Small() + Words{"--speed", "fast"}, {"--speed", "fast"}},
      {Small() + Words{"--write-policy", "never"}, {"--write-policy", "never"}},
      {Small() + Words{"--l3-write-budget", "some"}, {"--l3-write-budget", "some"}},
      {Small() + Words{"--l3-write-budget", ""}, {"--l3-write-budget"}},
      {Small() + Words{"--l2-min", "little"}, {"--l2-min", "little"}},
      {Small() + Words{"--data-dir", "=3"}, {"--data-dir", "names no directory"}},
      {Small() + Words{"--data-dir", "/nvme0=65"}, {"--data-dir", "\"65\""}},
      {Small() + Words{"--data-dir", "/nvme0=0"}, {"--data-dir", "\"0\""}},
      {Small() + Words{"--l2-min", "9MiB"}, {"l2_bytes_min", "9437184"}},
      {Small() + Words{"--gpus", "0,"}, {"--gpus: \"0,\" is no list"}},
      {Small() + Words{"--gpus", "0,2,0"}, {"--gpus: \"0,2,0\"", "0 twice"}},
      {Small() + Words{"--l2-allocator", "slab"},
       {"--l2-allocator: \"slab\" is not hybrid, buddy or best-fit"}},
      {Small() + Words{"--l2-class-shares", "kv=half"}, {"--l2-class-shares: \"kv=half\""}},
      {Small() + Words{"--l3-class-shares", "kv=0.6:0.5"},
       {"--l3-class-shares: \"kv=0.6:0.5\"", "0.6 to 0.5 for kv"}},
      {Small() + Words{"--l2-class-shares", "kv=0.5:1,vision=0.5:1"},
       {"--l2-class-shares: \"kv=0.5:1,vision=0.5:1\"", "1 as the sum of all min"}},
      {Small() + Words{"--json", Path("none/figures.json")}, {Path("none/figures.json")}},
      {{"--dir", Path("store"), "--l2", "0", "--l3", "64MiB"}, {"--l2", "\"0\""}},
      {{"--dir", Path("store"), "--l2", "8MiB", "--l3", "lots"}, {"--l3", "\"lots\""}},
      {{"--dir", Path("store"), "--l2", "8MiB", "--l3", "4000TiB"}, {"disk", Path("store")}},
      {{"--dir", Path("empty.jsonl"), "--l2", "8MiB", "--l3", "64MiB"}, {Path("empty.jsonl")}},
      {{"--dir", Path("none/store"), "--l2", "8MiB", "--l3", "64MiB"}, {Path("none")}},
  };
  for (const Mistake& mistake : mistakes) {
    const ProcessEnd end = Run(mistake.arguments);
    EXPECT_EQ(end.exit_code, 2) << mistake.arguments.back();
    EXPECT_EQ(std::count(end.err.begin(), end.err.end(), '\n'), 1) << end.err;
    for (const std::string& said : mistake.said) EXPECT_THAT(end.err, HasSubstr(said));
    EXPECT_EQ(end.out, "");
  }
  EXPECT_FALSE(std::filesystem::exists(Path("store")));
}

// Nine requests at once and one that is never due: where the process is does not depend on time.

}  // namespace
}  // namespace cairn
