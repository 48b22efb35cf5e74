// The parts of kv-offload that need no store, but for where its requests come from.

#include <chrono>
#include <filesystem>
#include <fstream>
#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"
#include "tests/lru_simulation.h"
#include "tests/temporary_directory.h"
#include "tools/offload/block_content.h"
#include "tools/offload/block_plan.h"
#include "tools/offload/class_mix.h"
#include "tools/offload/class_shares.h"
#include "tools/offload/model.h"
#include "tools/offload/option_values.h"
#include "tools/offload/options.h"
#include "tools/offload/replay.h"
#include "tools/offload/report.h"
#include "tools/offload/tally.h"

namespace cairn::offload {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

TEST(LruSimulation, HitsLeadingBlocksAndForgetsTheOldest) {
  LruSimulation lru({.bytes_max = 3 * 8192 + 8191, .block_bytes = 4096});
  EXPECT_EQ(lru.Replay({1, 2, 3}), 0);
  EXPECT_EQ(lru.Replay({1, 2, 9, 3}), 2);  // 1, 2 and then 3 leave for 9 and 3.
  EXPECT_EQ(lru.blocks(), 3);
  EXPECT_EQ(lru.Replay({2, 9, 3}), 3);
  EXPECT_EQ(lru.Replay({1}), 0);
  EXPECT_EQ(lru.lookups(), 11);
  EXPECT_EQ(lru.hits(), 5);
}

TEST(Model, HasThePublishedBytesPerToken) {
  const std::vector<std::pair<const char*, uint64_t>> published = {
      {"qwen3-vl-2b", 114688},       {"qwen3-vl-4b", 147456},     {"qwen3-vl-8b", 147456},
      {"qwen3-vl-32b", 262144},      {"qwen3-vl-30b-a3b", 98304}, {"qwen3-vl-235b-a22b", 192512},
      {"llama-3-8b", 131072},        {"llama-3-70b", 327680},     {"deepseek-v3", 70272},
      {"Qwen3-VL-235B-A22B", 192512}};
  for (const auto& [name, bytes] : published) {
    const absl::StatusOr<Model> model = FindModel(name);
    ASSERT_TRUE(model.ok()) << model.status();
    EXPECT_EQ(model->kv_bytes_per_token(), bytes) << name;
  }
  EXPECT_THAT(std::string(FindModel("gpt-2").status().message()),
              AllOf(HasSubstr("\"gpt-2\""), HasSubstr("qwen3-vl-8b"), HasSubstr("deepseek-v3")));
}

TEST(Size, ParsesUnits) {
  const std::vector<std::pair<const char*, uint64_t>> sizes = {
      {"1", 1},
      {"4096", 4096},
      {"4096B", 4096},
      {"64KiB", 65536},
      {"2GiB", 1ull << 31},
      {"16G", 1ull << 34},
      {"512mib", 1 << 29},
      {"1.5GiB", 3ull << 29},
      {"1 TiB", 1ull << 40},
      {"2GB", 2000000000},
      {"0.5K", 512},
      {"4503599627370497", 4503599627370497}};
  for (const auto& [text, bytes] : sizes) {
    const absl::StatusOr<uint64_t> size = ParseSize(text);
    ASSERT_TRUE(size.ok()) << size.status();
    EXPECT_EQ(*size, bytes) << text;
  }
}

TEST(Size, RefusesWhatIsNone) {
  for (const char* text : {"", "0", "0GiB", "-1", "-2GiB", "GiB", "2XiB", "2GiBs", "1e9", "two",
                           "1.2.3G", ".", "nan", "0x10", "99999999999G", "8388608TiB", "2 3"}) {
    const absl::Status status = ParseSize(text).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << text;
    EXPECT_THAT(std::string(status.message()), HasSubstr("\"" + std::string(text) + "\""));
  }
}

std::vector<std::byte> Block(uint64_t id, size_t size) {
  std::vector<std::byte> bytes(size);
  FillBlock(id, absl::MakeSpan(bytes));
  return bytes;
}

TEST(BlockContent, FollowsFromTheId) {
  for (const size_t size : {1, 7, 8, 31, 32, 33, 4096, 36864, 70272 * 3 + 5}) {
    const std::vector<std::byte> block = Block(5, size);
    EXPECT_EQ(FirstDifference(5, block), std::nullopt) << size;
    EXPECT_EQ(block, Block(5, size));
    if (size < 8) continue;
    EXPECT_NE(block, Block(6, size)) << size;
    EXPECT_NE(FirstDifference(6, block), std::nullopt) << size;
  }
}

TEST(BlockContent, FindsAFlippedBitWhereItIs) {
  std::vector<std::byte> block = Block(77, 4099);
  for (size_t offset = 0; offset < block.size(); ++offset) {
    block[offset] ^= std::byte{0x10};
    ASSERT_EQ(FirstDifference(77, block), offset);
    block[offset] ^= std::byte{0x10};
  }
}

TEST(BlockContent, DiffersFromPageToPage) {
  const std::vector<std::byte> block = Block(1, 64 * 4096);
  std::set<std::string> pages;
  for (size_t page = 0; page < 64; ++page) {
    pages.emplace(reinterpret_cast<const char*>(block.data()) + page * 4096, 4096);
  }
  EXPECT_EQ(pages.size(), 64);
}

Options OptionsForPlan() {
  Options options;
  options.l2_bytes = uint64_t{1} << 30;
  options.model = *FindModel("qwen3-vl-8b");
  options.kv_bytes_per_token = options.model->kv_bytes_per_token();
  return options;
}

TEST(BlockPlan, HasTheModelsShape) {
  const absl::StatusOr<BlockPlan> plan = PlanBlocks(OptionsForPlan(), TraceFormat::kBailian);
  ASSERT_TRUE(plan.ok()) << plan.status();
  EXPECT_EQ(plan->bytes, 9 * (1 << 18));
  EXPECT_EQ(plan->meta, TensorMeta::Of(DType::kBf16, {2, 36, 8, 16, 128}));
  EXPECT_EQ(plan->meta.byte_count(), plan->bytes);
  EXPECT_EQ(plan->fingerprint,
            "kv-offload model=qwen3-vl-8b block_tokens=16 scale=1 block_bytes=2359296 dtype=bf16");
}

TEST(BlockPlan, ScalesToWholePages) {
  Options options = OptionsForPlan();
  options.scale = 1000;
  const absl::StatusOr<BlockPlan> plan = PlanBlocks(options, TraceFormat::kMooncake);
  ASSERT_TRUE(plan.ok()) << plan.status();
  EXPECT_EQ(plan->tokens, 512);
  EXPECT_EQ(plan->bytes, 19 * 4096);  // 75497.5 rounded up.
  EXPECT_EQ(plan->meta, TensorMeta::Bytes(plan->bytes));
}

TEST(BlockPlan, RefusesBlocksThatDoNotFitMemory) {
  Options options = OptionsForPlan();
  options.l2_bytes = uint64_t{64} << 20;
  EXPECT_THAT(std::string(PlanBlocks(options, TraceFormat::kMooncake).status().message()),
              AllOf(HasSubstr("--l2"), HasSubstr("64 MiB"), HasSubstr("72 MiB")));
}

TEST(BlockPlan, HasTheSizesOfTheOtherClasses) {
  Options options = OptionsForPlan();
  options.class_mix = {.kv = 70, .vision = 20, .text = 10};
  const absl::StatusOr<BlockPlan> plan = PlanBlocks(options, TraceFormat::kBailian);
  ASSERT_TRUE(plan.ok()) << plan.status();
  EXPECT_EQ(plan->bytes_max(), uint64_t{32} << 20);  // 1024 visual tokens of 32 KiB.
  std::map<TensorClass, uint64_t> seen;
  for (uint64_t id = 0; id < 10000; ++id) {
    const BlockPlan::Tensor tensor = plan->Of(id);
    ++seen[tensor.tensor_class];
    EXPECT_EQ(tensor.meta.byte_count(), tensor.bytes);
    EXPECT_LE(tensor.bytes, plan->bytes_max());
    if (tensor.tensor_class == TensorClass::kKv) {
      EXPECT_EQ(tensor.bytes, plan->bytes);
    } else if (tensor.tensor_class == TensorClass::kText) {
      EXPECT_EQ(tensor.bytes, 16 * 8192);
    }
  }
  EXPECT_NEAR(static_cast<double>(seen[TensorClass::kKv]), 7000, 300);
  EXPECT_NEAR(static_cast<double>(seen[TensorClass::kVision]), 2000, 300);
  EXPECT_NEAR(static_cast<double>(seen[TensorClass::kText]), 1000, 300);
  // Other bytes under the same id: no key of one is another's.
  EXPECT_NE(plan->fingerprint, PlanBlocks(OptionsForPlan(), TraceFormat::kBailian)->fingerprint);
}

TEST(ClassMix, IsReadOrRefused) {
  EXPECT_EQ(ParseClassMix("text:10,kv:70,vision:20")->ToString(), "kv:70,vision:20,text:10");
  EXPECT_EQ(ParseClassMix("vision=1")->ToString(), "kv:0,vision:1,text:0");
  for (const char* text :
       {"", "kv", "kv:", "kv:x", "kv:-1", "kv:0", "audio:1", "kv:1,,", "70,20"}) {
    EXPECT_TRUE(absl::IsInvalidArgument(ParseClassMix(text).status())) << text;
  }
}

TEST(ClassShares, AreReadOrRefused) {
  EXPECT_EQ(ToString(*ParseClassShares("vision=0:0.3,kv=0.5:1")),
            "general=0:1,kv=0.5:1,vision=0:0.3,text=0:1");
  EXPECT_EQ(ToString(*ParseClassShares("text=0.25:0.75")),
            "general=0:1,kv=0:1,vision=0:1,text=0.25:0.75");
  for (const char* text : {"", "kv", "kv=", "kv=0.5", "kv=0.5:", "kv=:1", "kv=x:1", "kv=0.5:1:1",
                           "audio=0:1", "kv=0:1,", "kv=0:1,kv=0:1", "kv:0.5:1"}) {
    const absl::Status status = ParseClassShares(text).status();
    EXPECT_TRUE(absl::IsInvalidArgument(status)) << text;
    EXPECT_THAT(std::string(status.message()), HasSubstr(absl::StrCat("\"", text, "\"")));
  }
}

TEST(Replay, BoundsWhatIsPinned) {
  ReplayOptions options;
  options.block.bytes = 1 << 20;
  options.l2_bytes = uint64_t{2} << 30;
  EXPECT_EQ(WindowBlocks(options), 64);
  options.concurrency = 32;
  EXPECT_EQ(WindowBlocks(options), 16);
  options.block.bytes = 36864;
  EXPECT_EQ(WindowBlocks(options), 455);
  options.l1_bytes = uint64_t{1} << 30;
  EXPECT_EQ(WindowBlocks(options), 227);
  options.l2_bytes = uint64_t{4} << 20;
  EXPECT_EQ(WindowBlocks(options), 1);
}

TEST(Replay, NamesBlocksReadably) {
  EXPECT_EQ(BlockKey(0), "block/0000000000000000");
  EXPECT_EQ(BlockKey(UINT64_MAX), "block/ffffffffffffffff");
}

TEST(Percentile, IsTheNearestRank) {
  EXPECT_EQ(Percentile({}, 0.5), 0);
  EXPECT_EQ(Percentile({7}, 0.99), 7);
  EXPECT_EQ(Percentile({4, 1, 3, 2}, 0.5), 2);
  std::vector<uint64_t> values;
  for (uint64_t value = 200; value > 0; --value) values.push_back(value);
  EXPECT_EQ(Percentile(values, 0.99), 198);
  EXPECT_EQ(Percentile(values, 1), 200);
}

Interval Seconds(int begin, int end) {
  const Interval::Clock::time_point origin{};
  return {origin + std::chrono::seconds(begin), origin + std::chrono::seconds(end)};
}

TEST(UnionSeconds, CountsOverlapOnce) {
  EXPECT_EQ(UnionSeconds({}), 0);
  EXPECT_EQ(UnionSeconds({Seconds(5, 6), Seconds(0, 2), Seconds(1, 3), Seconds(1, 2)}), 4);
}

Outcome MadeUpOutcome(const Options& options, const BlockPlan& plan) {
  Outcome outcome = {.options = options, .block = plan};
  outcome.tally.requests = 2;
  outcome.tally.blocks_looked_up = 40;
  outcome.tally.hits_l2 = 6;
  outcome.tally.hits_l3 = 4;
  outcome.tally.tokens_saved = 160;
  outcome.tally.bytes_restored = 10 * plan.bytes;
  outcome.tally.bytes_compared = 10 * plan.bytes;
  outcome.tally.puts = 31;
  outcome.tally.puts_refused = 1;
  outcome.tally.restore_us = {3000, 1000};
  outcome.tally.restores = {Seconds(0, 2)};
  outcome.tally.put_waits = {Seconds(2, 3)};
  outcome.stats.puts_kept_existing = 10;
  outcome.stats.l2.bytes_written = 20 * plan.bytes;
  outcome.stats.l3.bytes_written = 20 * plan.bytes;
  outcome.stats.io_engine = "posix";
  outcome.flush_s = 1;
  outcome.wall_s = 4;
  return outcome;
}

TEST(Report, HasTheAgreedFields) {
  Options options = OptionsForPlan();
  options.trace = "odd \xff name";
  const BlockPlan plan = *PlanBlocks(options, TraceFormat::kBailian);
  const auto json = nlohmann::json::parse(ReportJson(MadeUpOutcome(options, plan)), nullptr, false);
  ASSERT_TRUE(json.is_object());
  for (const char* field :
       {"requests", "blocks_looked_up", "blocks_hit", "hits_l1", "hits_l2", "hits_l3", "hit_rate",
        "tokens_saved", "bytes_restored", "bytes_written_l3", "bytes_compared", "mismatches",
        "restore_us_p50", "restore_us_p99", "wall_s", "restore_gbps", "store_gbps",
        "warm_start_blocks"}) {
    ASSERT_TRUE(json.contains(field)) << field;
    EXPECT_TRUE(json[field].is_number()) << field;
  }
  EXPECT_EQ(json["blocks_hit"], 10);
  EXPECT_EQ(json["hit_rate"], 0.25);
  EXPECT_EQ(json["restore_us_p50"], 1000);
  EXPECT_EQ(json["restore_us_p99"], 3000);
  EXPECT_DOUBLE_EQ(json["restore_gbps"], 10 * 2359296 / 2e9);
  // 31 puts less one refused and ten that found their block there, in one second and the flush's.
  EXPECT_DOUBLE_EQ(json["store_gbps"], 20 * 2359296 / 2e9);
  EXPECT_DOUBLE_EQ(json["time_saved_s"], 160 / 10000.0 - 0.004);
}

TEST(Report, PrintsATable) {
  const Options options = OptionsForPlan();
  const BlockPlan plan = *PlanBlocks(options, TraceFormat::kBailian);
  Outcome outcome = MadeUpOutcome(options, plan);
  outcome.interrupted = true;
  outcome.stats.degraded = "L3 writes stopped: no space";
  EXPECT_THAT(ReportTable(outcome),
              AllOf(HasSubstr("generated workload, seed 1"), HasSubstr("2 (interrupted)"),
                    HasSubstr("10 (25.0 %): L1 0, L2 6, L3 4"), HasSubstr("10000 prefill tokens"),
                    HasSubstr("p50 1.00 ms, p99 3.00 ms"), HasSubstr("mismatches: 0"),
                    HasSubstr("1 for lack of room"), HasSubstr("L3 writes stopped: no space")));
}

TEST(Report, WritesItsFileInOneStep) {
  const TemporaryDirectory directory;
  const std::string path = directory / "report.json";
  ASSERT_TRUE(WriteAtomically(path, "old").ok());
  ASSERT_TRUE(WriteAtomically(path, "new").ok());
  std::ifstream file(path);
  std::string text;
  std::getline(file, text);
  EXPECT_EQ(text, "new");
  EXPECT_TRUE(CheckWritable(path).ok());
  const std::string nowhere = "/nonexistent/report.json";
  EXPECT_THAT(std::string(CheckWritable(nowhere).message()), HasSubstr(nowhere));
  EXPECT_THAT(std::string(WriteAtomically(nowhere, "x").message()), HasSubstr(nowhere));
  EXPECT_FALSE(CheckWritable("/tmp").ok());
}

}  // namespace
}  // namespace cairn::offload
